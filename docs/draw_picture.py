"""Draw ``assets/run.svg``, the picture of a run: ``python docs/draw_picture.py``.

The run is real (the demo's prompts, through the sandbox with faults); the display is caught half way, then comes the
summary. The SVG names no font of anybody's server.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from pathlib import Path

from rich.console import Console

from imagen_async import Batch, ImagenClient, open_source
from imagen_async.cli.figures import Figures
from imagen_async.cli.live import LiveDisplay
from imagen_async.cli.summary import Ending, Reasons, run_text
from imagen_async.sandbox import SandboxGateway

HOME = Path(__file__).parents[1]
PICTURE = HOME / "docs" / "assets" / "run.svg"
FAULTS = {
    "429": 0.1,
    "500": 0.05,
    "502-html": 0.03,
    "disconnect": 0.03,
    "truncate": 0.03,
    "corrupt-base64": 0.03,
    "odd-wrapping": 0.1,
}
SEED = 327
"""The demo's: every job has its images in the end."""
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


async def draw(folder: Path) -> None:
    """Run the batch into `folder` and write the picture."""
    console = Console(record=True, width=100, force_terminal=True, color_system="truecolor", file=io.StringIO())
    console.print("[bold]$ imagen-async run examples/prompts.jsonl --output out --sandbox …[/bold]", highlight=False)
    async with (
        SandboxGateway(faults=FAULTS, seed=SEED, latency=(0.3, 2)) as gateway,
        ImagenClient(gateway.api_key, gateway.base_url, max_concurrency=8) as client,
    ):
        batch = Batch(client, open_source(HOME / "examples" / "prompts.jsonl"), output=folder / "out")
        async with batch:
            display = LiveDisplay(Figures(batch.progress, lambda: client.pace, time.monotonic), console)
            async for _ in batch:
                display.drawn()  # takes down how fast it goes
                if batch.progress.done == 2 * (batch.progress.total or 0) // 3:
                    console.print(display.drawn())
        console.print()
        ending = Ending(total=batch.progress.total)
        text = run_text(batch.summary, output=Path("out"), ending=ending, reasons=Reasons())
        console.print(text, highlight=False)
    PICTURE.write_text(console.export_svg(title="imagen-async", code_format=FORMAT, unique_id="run"), encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(draw(Path(scratch)))
