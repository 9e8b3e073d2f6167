"""What Dagster shows and runs: one module a stop. The work itself lies in livepeer, landing and warehouse."""
