# Everything a user runs. `./justw RECIPE` works on a machine without just.
set shell := ["bash", "-euo", "pipefail", "-c"]

rankbench := "target/release/rankbench"

# What there is
default:
    @just --list --unsorted --justfile '{{justfile()}}'

# Make .venv with libtorch and the all-MiniLM-L6-v2 backbone; does only what is missing
setup:
    @scripts/setup.sh

# Build target/release/rankbench
build: setup
    cargo build --release --bin rankbench

# The main job on the embedded synthetic data: Table 1, efficiency, report
quickstart *args: build
    {{rankbench}} quickstart {{args}}

# All tests
test *args: setup
    cargo test --release --workspace --no-fail-fast {{args}}

# The paper's Table 1 (DeBERTaV3-base, GLUE); flags override the recipe, e.g. --backbone all-MiniLM-L6-v2 --glue DIR --tasks rte
reproduce-table1 *args: build
    {{rankbench}} run --recipe recipes/table1.toml {{args}}

# The paper's Table 2: r or r_max in 1, 2, 4, 8, 16 for LoRA and SoRA
reproduce-table2 *args: build
    {{rankbench}} run --recipe recipes/table2.toml --out results/table2 {{args}}

# The paper's Figure 3 and its 99 % claim: the sparsifying schedule, as released and with a fresh warm-up a stage
reproduce-figure3 *args: build
    {{rankbench}} run --recipe recipes/figure3.toml --out results/figure3 {{args}}

# The paper's Figure 4: final ranks by layer and kind, task by task, and the agreement between seeds
reproduce-figure4 *args: build
    {{rankbench}} run --recipe recipes/figure4.toml --out results/figure4 {{args}}

# Flip each switch of docs/divergences.md alone against a base, and test what it changes
ablate *args: build
    {{rankbench}} ablate --base recipes/ablation.toml {{args}}

# The same number of trials for every method, chosen on validation alone; score against learning rate
tune *args: build
    {{rankbench}} tune --recipe recipes/tune.toml {{args}}

# CoLA with the three methods on three seeds, for one small GPU: the comparison a student is asked for
cola-three *args: build
    {{rankbench}} run cola_three --out results/cola {{args}}

# The quick forms of the paper's results on the embedded synthetic data, as CI runs them
paper-micro out="target/paper-micro": build
    {{rankbench}} plan --recipe recipes/micro/table2.toml --methods lora
    {{rankbench}} run --recipe recipes/micro/table2.toml --out {{out}}/table2
    {{rankbench}} run --recipe recipes/micro/figure3.toml --out {{out}}/figure3
    {{rankbench}} run --recipe recipes/micro/figure4.toml --out {{out}}/figure4
    {{rankbench}} ablate --base recipes/micro/ablation.toml --flip variant,subgradient,final_phase --out {{out}}/ablation
    {{rankbench}} tune --recipe recipes/micro/tune.toml --out {{out}}/tune

# The paper's Table 4: time per epoch, methods interleaved
efficiency *args: build
    {{rankbench}} efficiency --recipe recipes/efficiency.toml {{args}}

# Compare a small fixed recipe with results/baselines; --bless takes the result as the new baseline
regression *args: build
    {{rankbench}} regression --recipe recipes/regression.toml {{args}}

# Versions, devices, where each thing was found, what is missing
doctor: build
    {{rankbench}} doctor

# Criterion benches
bench *args: setup
    cargo bench --workspace {{args}}

# Format and lints, as CI checks them
check: setup
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# Fuzz a reader: tsv parquet spm tokenizer_json config safetensors pickle adapter recipe; needs cargo-fuzz
fuzz target seconds="600": setup
    @scripts/fuzz.sh {{target}} {{seconds}}

# Compare with the real transformers and peft: tokens adapters real-size (without a name: the first two)
parity *args: build
    @scripts/parity.sh {{args}}

# A training step of ours beside the strongest set-ups of transformers with peft, SoRA's authors' form, and the products' floor
compare-peers *args: build
    "$(scripts/peers-venv.sh)" bench/peers/compare.py {{args}}

# Step time of ours against the tokens of a batch and against the rank r, with figures
scaling *flags: build
    "$(scripts/peers-venv.sh)" bench/peers/scaling.py {{flags}}

# A directory that runs on a GPU node without network and cargo: bundle OUT [--backbone DIR|NAME|OWNER/NAME]... [--recipe R] [--glue DIR] [--dtype bf16] [--with-libtorch]
bundle *args: build
    @scripts/bundle.sh {{args}}

# A wheel of the built program, target/wheels/*.whl: pip install it where torch 2.11 is or may be installed
wheel: build
    @scripts/wheel.sh

# Install that wheel in clean environments of every Python at hand and run the quickstart there; --full: with a torch of their own
test-wheel *flags: wheel
    @scripts/test-wheel.sh {{flags}}

# Open a report's page in a headless Chromium and use it
test-page report="results/quickstart/report/report.html" *screenshots:
    @python3 tests/page/check.py {{report}} {{screenshots}}

# Compile a report's LaTeX tables with a real TeX
test-latex report="results/quickstart/report" *pdf:
    @scripts/test-latex.sh {{report}} {{pdf}}

# The longer checks of CI by their names: latex page wheel
ci-long *names: build
    @.ci/long {{names}}

# Write docs/recipes.md and docs/data_dictionary.md anew
references: build
    {{rankbench}} list --markdown > docs/recipes.md
    {{rankbench}} list files --markdown > docs/data_dictionary.md
