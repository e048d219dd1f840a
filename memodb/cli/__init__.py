"""The command line: thin calls into :class:`memodb.Store`, one file a topic.

:mod:`program` is the root command, :mod:`command` what every subcommand has in common, :mod:`options` their shared
options, :mod:`inputs` and :mod:`output` what goes in and out, :mod:`failures` how it ends. The others are commands.

Nothing here imports the library before a command runs: help and shell completion answer without loading it.
"""

from memodb.cli.program import main

__all__ = ["main"]
