"""`ubertrain eval`."""

from ubertrain.cli.options import Json, Overrides, Run


def evaluate(run: Run, overrides: Overrides = None, json: Json = False) -> None:
    """Score a run's newest state on its validation sets, task by task and set by set."""
    from ubertrain.cli.output import print_json, print_table, stderr
    from ubertrain.cli.tables import print_results, print_skipped
    from ubertrain.training.judge import Judge
    from ubertrain.training.loaded import load_run
    from ubertrain.training.report import task_results

    loaded = load_run(run, overrides or ())
    for remark in loaded.remarks:
        stderr().print(remark, markup=False, style="yellow")
    judge = Judge(loaded.model, loaded.sets("val"))
    scores = judge.scores()
    constant = judge.constant_scores(loaded.sets("train"))
    results = task_results(loaded.model.tasks, before={}, after=scores, constant=constant)
    if json:
        print_json({"step": loaded.step, "scores": scores, "constant": constant, "by_set": judge.last.by_set,
                    "skipped": judge.skipped})  # fmt: skip
        return
    print_results(results, before=False)
    rows = [
        [name, task, score, value]
        for name, by_task in judge.last.by_set.items()
        for task, by_score in by_task.items()
        for score, value in by_score.items()
    ]
    print_table(f"all scores after step {loaded.step}", ("set", "task", "score", "value"), rows)
    print_skipped(judge.skipped)
