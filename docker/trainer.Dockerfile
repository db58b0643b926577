# Trains and exports, on the CPU. For GPUs install TensorFlow's CUDA libraries, too: add
# `tensorflow[and-cuda]` to the second pip line.
#
#     docker build --file docker/trainer.Dockerfile --tag detflow-trainer .
#     docker run --volume "$PWD:/work" --user "$(id -u)" detflow-trainer train --config pets.yaml
FROM python:3.12-slim
RUN useradd --create-home --uid 10001 detflow
WORKDIR /app
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY detflow ./detflow
# The lock has what tests need as well; here it only chooses the versions.
RUN sed --expression 's/ *\\$//' --expression '/--hash/d' requirements.lock > constraints.txt \
  && pip install --no-cache-dir --constraint constraints.txt '.[train]'
# Weights that are downloaded, and Matplotlib's fonts, are kept below the home of whoever runs it.
ENV HOME=/home/detflow
RUN chmod 1777 /home/detflow
USER detflow
WORKDIR /work
HEALTHCHECK NONE
ENTRYPOINT ["detflow"]
CMD ["--help"]
