# One image for every part of the farm: `sheepfold` is its entry point, the part is its argument.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}
ENV LANG=C.UTF-8 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends blender \
 && rm -rf /var/lib/apt/lists/*
# An environment of our own: Debian's Blender brings Debian's Python packages along.
RUN python -m venv /opt/sheepfold
# The lock alone: this layer is made anew when it changes, not whenever the source does.
COPY locks/requirements.lock /opt/requirements.lock
RUN /opt/sheepfold/bin/pip install -q --only-binary :all: --require-hashes -r /opt/requirements.lock
# Whatever lasts lies below /var/lib/sheepfold; a new volume takes over these folders' owner.
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/sheepfold --create-home sheepfold \
 && cd /var/lib/sheepfold \
 && install -d -m 0700 -o sheepfold -g sheepfold coordinator server worker flower
COPY . /usr/src/sheepfold
RUN /opt/sheepfold/bin/pip install -q --no-deps --no-build-isolation /usr/src/sheepfold
ENV PATH=/opt/sheepfold/bin:$PATH \
    SHEEPFOLD_BLENDER=/usr/bin/blender \
    SHEEPFOLD_STATE_DIR=/var/lib/sheepfold/coordinator \
    SHEEPFOLD_SERVER_DIR=/var/lib/sheepfold/server \
    SHEEPFOLD_WORK_DIR=/var/lib/sheepfold/worker
USER sheepfold
WORKDIR /var/lib/sheepfold
ENTRYPOINT ["sheepfold"]
CMD ["--help"]
