#!/usr/bin/env python3
"""Opens a report's page in a real Chromium and uses it: check.py REPORT_HTML [SCREENSHOTS].

Needs Chromium (Debian: chromium) and, for the accessibility check, npm, which fetches axe-core for this test alone. What is not
there is skipped with a line that says so.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
import browser  # noqa: E402

AXE = "axe-core@4.10.3"
ARGUMENTS = sys.argv[1:]
# Most seconds until a page is there, and until it answers.
OPENS, ANSWERS = 5, 3
ROWS = "[...document.querySelectorAll('#first table')[0].tBodies[0].rows]"


def axe():
    """Text of axe-core, or None without npm or a registry."""
    if not shutil.which("npm"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        fetched = subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, capture_output=True)
        if fetched.returncode:
            return None
        archive = next(pathlib.Path(folder).glob("*.tgz"))
        shutil.unpack_archive(archive, folder)
        return (pathlib.Path(folder) / "package/axe.min.js").read_text()


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = browser.Browser(browser.find())
        cls.url = pathlib.Path(ARGUMENTS[0]).resolve().as_uri()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def setUp(self):
        self.page = self.browser
        self.page.events.clear()
        self.page.size(1280, 900)
        self.page.media()
        self.page.open(self.url)

    def tearDown(self):
        self.assertEqual(self.page.problems(), [])

    def shot(self, name, full=False):
        if len(ARGUMENTS) > 1:
            self.page.screenshot(f"{ARGUMENTS[1]}/{name}.png", full)

    def column(self, title):
        """Texts of a column of Table 1."""
        heads = self.page.js("[...document.querySelectorAll('#first table')[0].tHead.rows[0].cells].map(c => c.innerText.trim())")
        at = next(i for i, head in enumerate(heads) if head.startswith(title))
        return at, self.page.js(f"{ROWS}.map(row => row.cells[{at}].innerText.split('\\n')[0])")

    def test_first_screen(self):
        self.shot("first")
        self.shot("whole", full=True)
        self.assertIn("Table 1", self.page.js("document.querySelector('#first h2').innerText"))
        self.assertGreater(len(self.column("Method")[1]), 0)
        self.assertIn("Command", self.page.js("document.querySelector('dl').innerText"))

    def test_sorting(self):
        at, before = self.column("Effective")
        press = f"document.querySelectorAll('#first table')[0].tHead.rows[0].cells[{at}].querySelector('button').click()"
        value = lambda text: float(text.rstrip("kM–") or "nan") * {"k": 1e3, "M": 1e6}.get(text[-1], 1)
        self.page.js(press)
        _, up = self.column("Effective")
        self.assertEqual(up, sorted(before, key=value))
        state = f"document.querySelectorAll('#first table')[0].tHead.rows[0].cells[{at}].ariaSort"
        self.assertEqual(self.page.js(state), "ascending")
        self.page.js(press)
        self.assertEqual([value(t) for t in self.column("Effective")[1]], sorted(map(value, before), reverse=True))

    def choices(self, name):
        """Texts of a filter's choices without `all`; none where there is nothing to choose."""
        return self.page.js(f"[...(document.getElementById('filter-{name}')?.options || [])].slice(1).map(o => o.text)")

    def choose(self, name, index):
        self.page.js(
            f"(s => {{ s.selectedIndex = {index}; s.dispatchEvent(new Event('change')); }})(document.getElementById('filter-{name}'))"
        )

    def run_count(self):
        """Number of runs that the table of runs shows; its caption says it where they are many or filtered."""
        caption = self.page.js("document.querySelector('#runs table').caption.innerText")
        return int(caption.split()[0]) if caption else self.page.js("document.querySelectorAll('#runs tbody tr').length")

    def test_only_tasks_that_were_run_are_columns(self):
        heads = self.page.js("[...document.querySelectorAll('#first table')[0].tHead.rows[0].cells].slice(3).map(c => c.innerText)")
        cells = self.page.js(f"{ROWS}.map(row => [...row.cells].slice(3).map(cell => cell.innerText))")
        for at, head in enumerate(heads):
            self.assertTrue(any(row[at] not in ("", "–") for row in cells), f"{head} is empty")

    def test_filters(self):
        total = self.run_count()
        for name in ["task", "method", "variant", "device", "commit"]:
            choices = self.choices(name)
            self.assertNotEqual(len(choices), 1, f"{name}: a filter with one choice")
            if not choices:
                continue
            columns = self.page.js("document.querySelectorAll('#first table')[0].tHead.rows[0].cells.length")
            counts = []
            for at in range(1, min(len(choices), 4) + 1):
                self.choose(name, at)
                counts.append(self.run_count())
                self.assertTrue(0 < counts[-1] < total, f"{name} {choices[at - 1]}: {counts[-1]} of {total}")
            if len(choices) <= 4:
                self.assertEqual(sum(counts), total, name)
            if name == "task":
                self.assertLess(self.page.js("document.querySelectorAll('#first table')[0].tHead.rows[0].cells.length"), columns)
            if name == "method":
                self.assertTrue(all(row.startswith(choices[at - 1]) for row in self.column("Method")[1]))
                self.shot("filtered")
            self.page.js("document.querySelector('.filters button').click()")
            self.assertEqual(self.run_count(), total, f"{name}: all again")

    def test_a_cell_opens_by_keyboard_and_closes(self):
        self.page.js("document.querySelector('#first button.cell').focus()")
        self.page.key("Enter")
        text = self.page.js("document.querySelector('dialog').innerText")
        for part in ["Mean over seeds", "Verdict", "Seeds", "Runs"]:
            self.assertIn(part, text)
        self.assertRegex(text, "Test split|Development set")
        self.page.js("document.querySelector('dialog details').open = true")
        self.assertIn("../runs/", self.page.js("document.querySelector('dialog details').innerText"))
        self.shot("cell")
        self.page.key("Escape")
        time.sleep(0.2)
        self.assertEqual(self.page.js("document.querySelectorAll('dialog').length"), 0)
        self.assertTrue(self.page.js("document.activeElement.matches('button.cell')"), "the focus comes back")

    def test_points_of_figures_answer(self):
        if not self.page.js("document.querySelectorAll('.spots circle').length"):
            self.skipTest("no figure with points")
        self.page.js("document.querySelector('.spots circle').scrollIntoView({ block: 'center' })")
        time.sleep(0.2)
        self.page.js("document.querySelector('.spots circle').focus()")
        tip = "document.getElementById('tip').hidden ? '' : document.getElementById('tip').innerText"
        first = self.page.js(tip)
        self.assertRegex(first, r"\d")
        self.page.key("ArrowRight")
        self.assertNotIn(self.page.js(tip), ["", first])
        self.shot("point")
        self.page.key("Escape")
        self.assertEqual(self.page.js(tip), "")
        # The pointer is told of the point on top, where several lie upon each other.
        place = self.page.js("(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector('.spots circle').getBoundingClientRect())")
        self.page.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
        pointed = self.page.js(tip)
        self.page.js(f"document.elementFromPoint({place[0]}, {place[1]}).focus()")
        self.assertNotEqual(pointed, "")
        self.assertEqual(self.page.js(tip), pointed)

    def test_dark(self):
        light = self.page.js("getComputedStyle(document.body).backgroundColor")
        self.page.media(scheme="dark")
        self.assertNotEqual(self.page.js("getComputedStyle(document.body).backgroundColor"), light)
        self.shot("dark", full=True)

    def test_print(self):
        self.page.media(scheme="dark")
        pdf = self.page.pdf()
        self.assertTrue(pdf.startswith(b"%PDF") and len(pdf) > 10_000)
        self.page.media(media="print")
        self.assertEqual(self.page.js("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)")
        self.assertEqual(self.page.js("(bar => bar ? getComputedStyle(bar).display : 'none')(document.querySelector('.filters'))"), "none")
        if len(ARGUMENTS) > 1:
            pathlib.Path(f"{ARGUMENTS[1]}/print.pdf").write_bytes(pdf)

    def test_narrow(self):
        self.page.size(400, 800)
        self.assertLessEqual(self.page.js("document.documentElement.scrollWidth"), 400)
        self.shot("narrow")
        self.page.js("document.querySelector('#first button.cell').click()")
        self.assertLessEqual(self.page.js("document.querySelector('dialog').getBoundingClientRect().width"), 400)
        self.shot("narrow_cell")

    def test_everything_is_reached_by_keyboard(self):
        seen = []
        for _ in range(40):
            self.page.key("Tab")
            seen.append(self.page.js("(e => e.closest('.filters') ? 'filter' : e.matches('th button') ? 'head' : e.matches('button.cell') ? 'cell' : '')(document.activeElement)"))
        for part in ["filter", "head", "cell"]:
            self.assertIn(part, seen)
        self.page.js("document.querySelector('#first th button').focus()")
        self.page.key("Enter")
        self.assertEqual(self.page.js("document.querySelector('#first th').ariaSort"), "ascending")
        self.assertTrue(self.page.js("document.activeElement.matches('th button')"), "the focus stays")

    def test_is_quick(self):
        """A person waits for the page once; for everything else it must answer at once, however many runs there are."""
        work = {
            "opened": lambda: self.page.open(self.url),
            "sorted": lambda: self.page.js("document.querySelector('#runs th button').click()"),
            "filtered": lambda: self.choices("method") and self.choose("method", 1),
            "all shown again": lambda: self.page.js("document.querySelector('.filters button')?.click()"),
            "cell opened": lambda: self.page.js("document.querySelector('#first button.cell').click()"),
        }
        seconds = {}
        for name, do in work.items():
            started = time.time()
            do()
            # What was changed is laid out and drawn.
            self.page.js("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
            seconds[name] = time.time() - started
        said = ", ".join(f"{name} in {value:.2f} s" for name, value in seconds.items())
        print(f"{self.page.js('runCount')} runs: {said}")
        for name, value in seconds.items():
            self.assertLess(value, OPENS if name == "opened" else ANSWERS, said)

    def test_rows_are_made_on_demand(self):
        runs = self.page.js("runCount")
        made = "document.querySelectorAll('#runs tbody tr').length"
        self.assertEqual(self.page.js(made), min(runs, 100))
        if runs > 100:
            self.page.js("(box => { box.scrollTop = box.scrollHeight; })(document.querySelector('#runs .tall'))")
            time.sleep(0.5)
            self.assertGreater(self.page.js(made), 100)

    def test_accessibility(self):
        source = axe()
        if source is None:
            self.skipTest("axe-core cannot be had: it needs npm and its registry")
        for scheme, width in [("light", 1280), ("dark", 1280), ("light", 400)]:
            self.page.size(width, 900)
            self.page.media(scheme=scheme)
            self.page.open(self.url)
            self.page.js(source + ";0")
            for state in ["page", "dialog"]:
                if state == "dialog":
                    self.page.js("document.querySelector('#first button.cell').click()")
                found = self.page.js("axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 200)]))")
                serious = [violation for violation in found if violation[0] in ("serious", "critical")]
                self.assertEqual(serious, [], f"{scheme}, {width} px, {state}")
                for violation in found:
                    print(f"axe, {scheme}, {width} px, {state}: {violation}")


if __name__ == "__main__":
    if not ARGUMENTS:
        sys.exit(__doc__)
    if not pathlib.Path(ARGUMENTS[0]).is_file():
        sys.exit(f"{ARGUMENTS[0]} is not there: `rankbench report` writes a page")
    if browser.find() is None:
        print("skipped: no Chromium on this machine (Debian: apt-get install chromium), so the page was not opened")
        sys.exit(0)
    unittest.main(argv=sys.argv[:1])
