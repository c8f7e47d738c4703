# What a job asks a cluster for. Said of every rule that computes; the profile has the rest.


def needs(memory_gb, minutes, device="cpu", gpus=1):
    """Resources of a rule, more at each further attempt; GPUs of one node if the stage's key asks for them."""
    gpus = gpus if device == "cuda" else 0
    return {
        "mem_mb": lambda wildcards, attempt: attempt * memory_gb * 1000 * max(gpus, 1),
        "runtime": lambda wildcards, attempt: attempt * minutes,
        "gpu": gpus,
    } | ({"nodes": 1} if gpus > 1 else {})
