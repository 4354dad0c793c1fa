def of_arrays(config, arrays):
    return None
