# Tollgate in a container. Only calls the steps in script/, which the tests run too; the image itself is not built by
# the project's tests (no container engine is assumed there).
#
#   docker build -t tollgate .
#   docker run --network host -v tollgate:/var/lib/tollgate -v ./gate.toml:/etc/tollgate/gate.toml:ro tollgate
#
# Host networking: SIP and RTP name addresses and ports in their messages, so port mapping breaks them.

FROM debian:12-slim AS build
WORKDIR /src
COPY script/ script/
COPY requirements.txt pyproject.toml README.md LICENSE ./
COPY native/ native/
COPY proxy/ proxy/
RUN script/build /opt/tollgate

FROM debian:12-slim
COPY script/lib.sh script/bootstrap /opt/script/
RUN /opt/script/bootstrap --runtime && rm -rf /var/lib/apt/lists/* /opt/script \
 && useradd --system --home-dir /var/lib/tollgate --create-home --shell /usr/sbin/nologin tollgate
COPY --from=build /opt/tollgate /opt/tollgate
ENV PATH=/opt/tollgate/bin:$PATH \
    TOLLGATE_STORE__URL=sqlite:////var/lib/tollgate/tollgate.db
USER tollgate
WORKDIR /var/lib/tollgate
VOLUME /var/lib/tollgate
EXPOSE 5060/udp 5060/tcp 10000-19999/udp
STOPSIGNAL SIGTERM
ENTRYPOINT ["tollgate"]
CMD ["serve", "--config", "/etc/tollgate/gate.toml"]
