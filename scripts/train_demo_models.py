#!/usr/bin/env python
"""Make the built-in models again: python scripts/train_demo_models.py --output demo-models."""

from __future__ import annotations

import argparse
from pathlib import Path

from cryosiam_engine.logs import log_to_terminal
from cryosiam_engine.training.demo_recipes import MODELS, make_models


def main() -> None:
    """Simulate, train, export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-models"))
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--model", action="append", choices=MODELS, help="only this one")
    parser.add_argument("--quick", action="store_true", help="only to see that it runs")
    args = parser.parse_args()
    with log_to_terminal():
        make_models(
            args.output.absolute(), args.model or MODELS, device=args.device, quick=args.quick
        )


if __name__ == "__main__":
    main()
