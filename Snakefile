# What can be asked for is in workflow/Snakefile, where workflow catalogues look for it. An included
# file cannot set the default target, so it is named here again.
include: "workflow/Snakefile"


localrules:
    everything,


rule everything:
    default_target: True
    input:
        rules.all.input,
