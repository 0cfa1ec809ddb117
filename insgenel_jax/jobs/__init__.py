"""Batch jobs: files of documents in; a folder of linked parts out, nothing lost.

    inputs -> shards -> job.json -> (processes | cluster) -> parts

The input is cut into shards once, and the plan is kept in the output's `job.json`. Each
shard becomes one part, written aside and committed whole; a job that was killed skips
the parts that are there. See `run.run_job`.
"""
