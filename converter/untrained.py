def untrained_notes(arrays):
    return ()
