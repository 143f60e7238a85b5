"""The study command: run what is missing, compare, keep."""

import sys
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from experiments import store
from experiments.errors import Diverged, UserError, unknown
from experiments.study import plan as plans
from experiments.study.markdown import text
from experiments.study.plan import Plan, Task
from experiments.table.pool import Failed, work_through

RESULTS = Path(__file__).parent.parent / "results" / "studies"


@dataclass(frozen=True)
class Study:
    """Compare methods, or settings of one, on the same streams.

    Runs the seeds that are missing, keeps them, and prints each arm beside its references:
    mean, and mean difference ± standard error over the seeds.
    """

    name: Annotated[Positional[str | None], arg(metavar="[NAME]")] = None
    """Which; without a name: which there are."""
    half: str = "confirmation"
    """validation (held-out training rows), on which choices are made, or confirmation."""
    arms: tuple[str, ...] = ()
    """Some arms; all by default."""
    streams: tuple[str, ...] = ()
    """Some streams; all by default."""
    seeds: int | None = None
    """The first so many of the seeds declared; all by default."""
    jobs: int = 2
    """Processes, of one thread each."""
    show: bool = False
    """Run nothing."""
    data_root: Path = Path("data")
    """Folder of the data sets."""
    out: Path = RESULTS
    """Folder of the results."""


def run_study(options: Study) -> None:
    """Run, keep and print a study.

    :raises UserError: for what does not exist, or where a seed fails.
    """
    if options.name is None:
        for name in plans.names():
            print(f"{name}: {plans.read(name).found['title']}")
        return
    plan = plans.read(options.name)
    if options.half not in plan.found["halves"]:
        raise unknown("half", options.half, plan.found["halves"])
    arms = _some("arm", options.arms, plan.arms)
    streams = _some("stream", options.streams, plan.streams)
    seeds = list(plan.seeds(options.half))
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: use 1 or more")
    if options.seeds is not None and not 1 <= options.seeds <= len(seeds):
        raise UserError(f"--seeds {options.seeds}: use 1 to {len(seeds)}")
    seeds = seeds[: options.seeds]
    path = options.out / f"{plan.name}-{options.half}.json"
    kept = _kept(path, plan, options.half)
    results = kept["results"]
    if not options.show:
        tasks = deque(
            Task(stream, arm, seed)
            for seed in seeds
            for stream in streams
            for arm in arms
            if str(seed) not in results.get(stream, {}).get(arm, {})
        )
        _work(plan, options, tasks, kept, path)
    if not (told := text(plan, _of_seeds(results, seeds), arms, streams)):
        raise UserError(f"nothing is measured of it in {path}: run it, without --show")
    print(told)
    if not options.show:
        print(f"results: {path}")


def _some(kind: str, wanted: tuple[str, ...], there: dict[str, Any]) -> list[str]:
    for name in wanted:
        if name not in there:
            raise unknown(kind, name, there)
    return [name for name in there if name in wanted or not wanted]


def _of_seeds(results: Any, seeds: list[int]) -> Any:
    """Results of these seeds alone: a file may hold those of an earlier plan."""
    return {
        stream: {
            arm: {seed: v for seed, v in by_seed.items() if int(seed) in seeds}
            for arm, by_seed in by_arm.items()
        }
        for stream, by_arm in results.items()
    }


def _kept(path: Path, plan: Plan, half: str) -> dict[str, Any]:
    """What was found before, for the same plan; a new record where there is nothing.

    The command is the one that makes the whole of it, in however many parts it came.
    """
    command = f"python -m experiments study {plan.name} --half {half}"
    new = {
        **store.configuration(command, {}, {}, {}),
        "study": plan.name,
        "half": half,
        "plan": plan.found,
        "results": {},
    }
    if not path.is_file():
        return new
    old = store.read(path, ("plan", "results"))
    results = {
        stream: {
            arm: found
            for arm, found in by_arm.items()
            if _same(plan.found, old["plan"], stream, arm, half)
        }
        for stream, by_arm in old["results"].items()
    }
    return {**new, "results": results}


def _same(new: Any, old: Any, stream: str, arm: str, half: str) -> bool:
    """Whether an arm is still run as it was."""

    def run(plan: Any) -> Any:
        part = plan["halves"].get(half, {}).get("validation", 0.0)
        how = {key: v for key, v in plan["arms"].get(arm, {}).items() if key != "label"}
        where = plan["streams"].get(stream, {})
        where = {key: v for key, v in where.items() if key != "label"}
        return plan["options"], how, where, part, plan.get("memory_epochs", 0)

    return bool(run(new) == run(old))


def _work(
    plan: Plan, options: Study, tasks: deque[Task], kept: dict[str, Any], path: Path
) -> None:
    total, done, failed = len(tasks), 0, []
    make = partial(_Worker, plan, options.half, options.data_root)
    for ended in work_through(make, tasks, min(options.jobs, max(1, total))):
        task = ended.task
        done += 1
        place = f"[{done}/{total}] {task.stream}, {task.arm}, seed {task.seed}"
        if isinstance(ended, Failed):
            failed.append(f"{place}: {ended.error}")
            print(failed[-1], file=sys.stderr)
            continue
        by_arm = kept["results"].setdefault(task.stream, {})
        by_arm.setdefault(task.arm, {})[str(task.seed)] = ended.value
        path.parent.mkdir(parents=True, exist_ok=True)
        store.write_json(path, kept)
        how = ended.value.get("diverged")
        told = how or f"{100 * ended.value['accuracy']:.2f} in {ended.seconds:.1f} s"
        print(f"{place}: {told}", file=sys.stderr)
    if failed:
        raise UserError(f"{len(failed)} of {total} runs failed; the first: {failed[0]}")


class _Worker:
    """Trains one task after the other in a process, whose data are read once."""

    def __init__(self, plan: Plan, half: str, data_root: Path) -> None:
        self.plan, self.half, self.data_root = plan, half, data_root
        self.arrays: dict[str, Any] = {}

    def __call__(self, task: Task) -> dict[str, Any]:
        from experiments.runner import prepare
        from experiments.training import train_seed

        run = self.plan.run_of(task, self.half, self.data_root)
        job = prepare(run, self.arrays.get(run.benchmark))
        self.arrays[run.benchmark] = job.arrays
        try:
            found = train_seed(job, task.seed, self.plan.memory_epochs)
        except Diverged as error:
            return {"diverged": str(error)}
        value = {
            "accuracy": found["average_accuracy"],
            "forgetting": found["average_forgetting"],
            "forgetting_of": found["forgetting"],
            "train_seconds": found["train_seconds"],
        }
        if "memory_accuracy" in found:
            value["memory_accuracy"] = found["memory_accuracy"]
        return value
