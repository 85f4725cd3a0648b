"""One transport a file, all of one shape, so that one harness measures them all.

A module has ``missing() -> str | None`` (why it cannot run here), ``MAX_WORKERS``, and two classes::

    Host(workers, shape, spin)      in the serving process
        kit(worker) -> object       what a worker's Client needs; goes through pickle
        serve(running)              answers until running() is false; looks at it at least every 0.1 s
        close()
    Client(kit, shape, spin)        in a worker's process
        round_trip(frame)           hands the frame over, returns when the answer is here
        close()
"""
