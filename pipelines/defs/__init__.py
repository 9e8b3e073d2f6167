"""What Dagster shows and runs: one module a stop. The work itself lies in livepeer, landing and warehouse."""

import warnings

# BackfillPolicy works and is tested here; its beta notice would stand above every command's output.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`")
