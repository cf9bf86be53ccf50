"""Puts the program that cargo built into the wheel, and takes the version from Cargo.toml."""

import re
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).resolve().parent.parent


class Build(BuildHookInterface):
    def initialize(self, version, build_data):
        program = ROOT / "target/release/rankbench"
        if not program.is_file():
            raise SystemExit(f"{program} is not built: run `just wheel`, which builds it first")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(program)] = "rankbench/rankbench.bin"


class Metadata(MetadataHookInterface):
    def update(self, metadata):
        text = (ROOT / "Cargo.toml").read_text()
        metadata["version"] = re.search(r'^version = "(.+)"$', text, re.M).group(1)
