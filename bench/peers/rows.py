"""What is made of the measurements of compare.py: columns of peers.csv, the strongest set-up, tables."""

import statistics

from common import both_precisions


def summary(rounds):
    """The median of a set-up's rounds and the most memory of any, or the first error."""
    if failed := [found for found in rounds if "error" in found]:
        return failed[0]
    if not rounds:
        return {"error": "not measured: the time was up (--budget)"}
    memory = {name: max(found[name] for found in rounds) for name in rounds[0] if name.endswith("_mib")}
    memory["peak_mib"] = memory.get("reserved_mib") or memory["resident_mib"]
    return {"seconds": statistics.median(found["seconds"] for found in rounds)} | memory


def columns(who, found, tokens):
    if "error" in found:
        return {f"{who}_error": found["error"]}
    seconds = found["seconds"]
    cells = {f"{who}_ms": round(1000 * seconds, 2), f"{who}_tokens_s": round(tokens / seconds)}
    cells[f"{who}_mib"] = round(found["peak_mib"])
    if "allocated_mib" in found:
        cells[f"{who}_allocated_mib"] = round(found["allocated_mib"])
    return cells


def strongest(row, setups):
    """The set-up of the shortest step, and how often ours goes into it."""
    measured = [setup for setup in setups if f"{setup}_ms" in row]
    if not measured:
        return {}
    best = min(measured, key=lambda setup: row[f"{setup}_ms"])
    found = {"strongest": best, "strongest_ms": row[f"{best}_ms"], "strongest_mib": row[f"{best}_mib"]}
    if "ours_ms" in row:
        found["ratio"] = round(row[f"{best}_ms"] / row["ours_ms"], 2)
    return found


def over_floor(row):
    if "ours_ms" not in row or "floor_ms" not in row:
        return {}
    return {"ours_over_floor": round(row["ours_ms"] / row["floor_ms"], 2)}


def table(rows, setups):
    """A row a setting and method, every set-up's milliseconds in it."""
    heads = ["precision", "batch × length", "method", "floor, ms", "ours, ms", *(f"{setup}, ms" for setup in setups)]
    heads += ["strongest", "times", "ours, MiB", "strongest, MiB"]
    names = ["floor_ms", "ours_ms", *(f"{setup}_ms" for setup in setups)]
    names += ["strongest", "ratio", "ours_mib", "strongest_mib"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        cells = [both_precisions(row), f"{row['batch']} × {row['length']}", row["method"]]
        lines.append(cells + [cell(row, name) for name in names])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(row, name):
    failed = name.removesuffix("_ms") + "_error"
    return "failed" if failed in row else str(row.get(name, "-"))


def unfused(rounds):
    """SoRA in its authors' form over PEFT's AdaLoRA, both eager: a line a setting, the median of the rounds' ratios."""
    times = {}
    for row in rounds:
        if row["setup"] == "eager":
            setting = (row["precision"], row["batch"], row["length"])
            times.setdefault(setting, {})[row["method"], row["round"]] = row["seconds_per_step"]
    lines = []
    for (precision, batch, length), found in times.items():
        ratios = [found["sora", r] / s for (method, r), s in found.items() if method == "adalora" and ("sora", r) in found]
        if ratios:
            spread = f"{min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} rounds"
            text = f"SoRA over AdaLoRA as released, unfused, {precision}, {batch} × {length}"
            lines.append(f"{text}: {statistics.median(ratios):.3f} ({spread})")
    return lines
