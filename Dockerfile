# The service with the linker that comes with the package, on CPU.
#   docker build -t insgenel . && docker run --rm -p 127.0.0.1:8000:8000 insgenel
# Another linker: docker run -v DIR:/linker:ro ... insgenel /linker
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
COPY setup.py pyproject.toml requirements.lock README.md LICENSE ./
COPY insgenel_jax ./insgenel_jax
RUN pip install --no-cache-dir -c requirements.lock ".[serve]"

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 1000 insgenel
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 JAX_PLATFORMS=cpu
USER 1000
WORKDIR /home/insgenel
RUN mkdir .cache
EXPOSE 8000
# answers once it runs, also while it still compiles (which /ready waits for)
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["insgenel", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["nano"]
