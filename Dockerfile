# costd in a container: built in one stage, run in another that has no build tools, by a user of its own.
#
#   docker build -t costd .
#   docker run --name costd -v costd:/var/lib/costd costd
#
# It listens on loopback: share its network with the service that calls it. docs/deployment.md says how, and how to
# publish it with TLS instead.

FROM python:3.11.14-slim-trixie AS build
WORKDIR /source
COPY pyproject.toml README.md ./
COPY daemon ./daemon
RUN python -m pip wheel --no-cache-dir --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/costd \
    && python -m pip --python /opt/costd/bin/python install --no-cache-dir --no-index --find-links /wheels costd

FROM python:3.11.14-slim-trixie
# The numbers are fixed so that volumes keep their owner, and so that Kubernetes can see that it is not root.
RUN python -m pip uninstall --yes --no-cache-dir pip setuptools wheel \
    && groupadd --system --gid 10001 costd \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/costd --no-create-home costd \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/costd
COPY --from=build /opt/costd /opt/costd
ENV PATH=/opt/costd/bin:/usr/local/bin:/usr/bin:/bin \
    COSTD_DATA_DIR=/var/lib/costd
USER 10001:10001
VOLUME ["/var/lib/costd"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["costd", "health"]
ENTRYPOINT ["costd"]
CMD ["run"]
