# Serves an export: the light core alone, without TensorFlow.
#
#     docker build --file docker/server.Dockerfile --tag detflow-server .
#     docker run --publish 8501:8501 --volume "$PWD/exports/pets:/models/detector:ro" detflow-server
FROM python:3.12-slim
RUN useradd --create-home --uid 10001 detflow
WORKDIR /app
COPY requirements-light.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements-light.lock
COPY pyproject.toml README.md LICENSE ./
COPY detflow ./detflow
RUN pip install --no-cache-dir --no-deps .
USER detflow
EXPOSE 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8501/readyz', timeout=4)"]
ENTRYPOINT ["detflow", "serve"]
CMD ["/models/detector", "--host", "0.0.0.0"]
