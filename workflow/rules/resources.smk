# What a job asks a cluster for. Said of every rule that computes; the profile has the rest.


def needs(memory_gb, minutes, device="cpu"):
    """Resources of a rule, more at each further attempt; a GPU where the stage's key asks for one."""
    return {
        "mem_mb": lambda wildcards, attempt: attempt * memory_gb * 1000,
        "runtime": lambda wildcards, attempt: attempt * minutes,
        "gpu": int(device == "cuda"),
    }
