"""The `robo4d` command line.

Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 built, but with more in quarantine
than `quarantine.max_share` allows, 143 ended by SIGTERM, 130 by Ctrl-C.
"""

from __future__ import annotations

import typer

from jobs import _cli_backfill, _cli_bench, _cli_build, _cli_data

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Build metric 4D robot clips from published data sets. Start with `robo4d build "
    "--source droid`: with no data at hand it builds from a simulated twin.",
)
for command in (
    _cli_build.plan,
    _cli_build.build,
    _cli_build.retry,
    _cli_backfill.backfill,
    _cli_build.status,
    _cli_build.verify,
    _cli_build.stats,
    _cli_data.inspect,
    _cli_data.explain,
    _cli_data.overlay,
    _cli_data.twin,
    _cli_data.rollout,
):
    app.command()(command)
app.add_typer(_cli_bench.bench, name="bench")

if __name__ == "__main__":
    app()
