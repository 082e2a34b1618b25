# The image of the workers, for Flink, Spark and Dataflow alike; the launcher runs in it too. See docs/image.md.
#
#   docker build --tag scoring .
#   docker build --tag scoring --build-arg TENSORFLOW=2.15 .

ARG PYTHON=3.11
ARG BEAM=2.77.0

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam

FROM python:${PYTHON}-slim
ARG PYTHON
ARG TENSORFLOW=2.21
ARG EXTRAS=gcs,aws,dataflow

COPY --from=beam /opt/apache/beam/boot /opt/apache/beam/LICENSE /opt/apache/beam/NOTICE /opt/apache/beam/

# What is needed, before the project itself: it is the same for most builds.
WORKDIR /opt/estimator-score
COPY setup.py pyproject.toml README.md LICENSE ./
COPY constraints constraints
RUN pip install --no-cache-dir --constraint "constraints/py${PYTHON%.*}${PYTHON#*.}-tf$TENSORFLOW.txt" ".[$EXTRAS]"
COPY pipeline pipeline
COPY transforms transforms
RUN pip install --no-cache-dir --no-deps --force-reinstall . \
    && pip check

# Beam's boot program makes an environment for each worker, where packages go that are staged with a job. Any user may:
# Kubernetes sets one (runAsUser). Dataflow's workers have to be root, who owns the folders that it mounts.
RUN install --directory --mode 1777 /opt/apache/beam-venv /opt/code

# For the user's `code:`, and for launchers that run in this image.
WORKDIR /opt/code

ENTRYPOINT ["/opt/apache/beam/boot"]
