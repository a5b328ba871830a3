"""`ubertrain config`."""

import typer

from ubertrain.cli.options import ConfigFile, Json, Overrides

app = typer.Typer(help="Look at configurations.", no_args_is_help=True)


@app.command("show")
def show(config: ConfigFile, overrides: Overrides = None, json: Json = False) -> None:
    """Print a configuration with every default and variable filled in, as YAML."""
    from ubertrain.cli.output import print_json
    from ubertrain.training.build import check_keywords
    from ubertrain.training.config import load

    experiment = load(config, overrides or ())
    check_keywords(experiment)
    if json:
        print_json(experiment.model_dump(mode="json"))
    else:
        print(experiment.dump(), end="")


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of configurations, for editors that complete and check YAML."""
    from ubertrain.cli.output import print_json
    from ubertrain.training.schema import schema as schema_of_files

    print_json(schema_of_files())
