# Score models compared at equal network, budget and seeds: on images, and on sets of points.
EVALUATION = f"{RESULTS}/evaluation"
DRAWN_IMAGES = [f"{EVALUATION}/drawn/{job}.zarr" for job in CONFIG.evaluation.jobs()]
DRAWN_POINTS = [f"{EVALUATION}/points/{name}.zarr" for name in CONFIG.evaluation.plane.sets]
MODEL_SCORES = f"{EVALUATION}/scores.csv"
MODEL_TABLE = f"{EVALUATION}/table.csv"
POINT_SCORES = f"{EVALUATION}/point_scores.csv"
POINT_TABLE = f"{EVALUATION}/point_table.csv"
FIGURE_MODELS = f"{RESULTS}/figures/models.png"
FIGURE_GALLERY = f"{RESULTS}/figures/gallery.png"
FIGURE_POINTS = f"{RESULTS}/figures/points.png"
EVALUATION_TABLES = [MODEL_SCORES, MODEL_TABLE, POINT_SCORES, POINT_TABLE]
EVALUATION_FIGURES = [FIGURE_MODELS, FIGURE_GALLERY, FIGURE_POINTS]


rule train_compared_score:
    input:
        images=IMAGES,
    output:
        model=directory(f"{EVALUATION}/models/{{model}}/{{number}}.zarr"),
    params:
        score_model=lambda wildcards: contestant(wildcards.model)["score_model"],
        seed=lambda wildcards: CONFIG.seed + int(wildcards.number),
        checkpoint=f"{EVALUATION}/models/{{model}}/{{number}}.checkpoint",
        provenance=lambda wildcards: provenance(PICTURED, contestant(wildcards.model)),
    script:
        "../scripts/train_score_model.py"


rule draw_compared_images:
    input:
        images=IMAGES,
        model=lambda wildcards: (
            f"{EVALUATION}/models/{CONFIG.evaluation.network_of(wildcards.model)}/"
            f"{wildcards.number}.zarr"
        ),
    output:
        drawn=directory(f"{EVALUATION}/drawn/{{model}}/{{number}}.zarr"),
    params:
        samples=lambda wildcards: contestant(wildcards.model)["samples"],
        seed=lambda wildcards: CONFIG.seed + int(wildcards.number),
        provenance=lambda wildcards: provenance(PICTURED, contestant(wildcards.model)),
    script:
        "../scripts/draw_compared_images.py"


rule draw_points:
    output:
        points=directory(f"{EVALUATION}/points/{{name}}.zarr"),
    params:
        **made_by(POINTED),
    script:
        "../scripts/draw_points.py"


rule tabulate_scores:
    input:
        images=IMAGES,
        drawn=DRAWN_IMAGES,
        points=DRAWN_POINTS,
    output:
        scores=MODEL_SCORES,
        table=report(MODEL_TABLE, category="scores", caption="../report/model_table.rst"),
        point_scores=POINT_SCORES,
        point_table=report(POINT_TABLE, category="scores", caption="../report/point_table.rst"),
    script:
        "../scripts/tabulate_scores.py"


rule plot_scores:
    input:
        images=IMAGES,
        drawn=DRAWN_IMAGES,
        points=DRAWN_POINTS,
        scores=MODEL_SCORES,
        point_scores=POINT_SCORES,
    output:
        models=report(FIGURE_MODELS, category="scores", caption="../report/models.rst"),
        gallery=report(FIGURE_GALLERY, category="scores", caption="../report/gallery.rst"),
        points=report(FIGURE_POINTS, category="scores", caption="../report/points.rst"),
    script:
        "../scripts/plot_scores.py"
