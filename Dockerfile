# The server of `lookalike serve`, for the `serve` profile of docker-compose.yml.
FROM python:3.12-slim

WORKDIR /app
COPY requirements.txt pyproject.toml README.md LICENSE ./
COPY utilities utilities
COPY pipelines pipelines
RUN pip install --no-cache-dir '.[faces,videos,web]'

# Exported networks, id maps and locks; the images lie where the collection's root says.
ENV LOOKALIKE_HOME=/data HOME=/tmp
RUN mkdir /data && chown 1000:1000 /data
USER 1000:1000
EXPOSE 8000
CMD ["lookalike", "serve", "--host", "0.0.0.0"]
