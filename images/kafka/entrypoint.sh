#!/bin/sh
# Formats the volume on the first start, then becomes the broker.
set -eu

volume=/var/lib/kafka
configuration=/etc/kafka/server.properties

# A killed process leaves files behind that its JVM has unpacked.
rm -rf "$volume/tmp"
mkdir -p "$volume/tmp"

# Formatting a formatted volume changes nothing, so a pod that was killed during
# the first start continues here. Any cluster id works: no other broker joins.
if [ ! -s "$volume/data/bootstrap.checkpoint" ]; then
    java -XX:+UseSerialGC -XX:-UsePerfData -XX:TieredStopAtLevel=1 -Djava.io.tmpdir="$volume/tmp" \
        -cp '/opt/kafka/lib/*' kafka.tools.StorageTool format --ignore-formatted \
        --cluster-id bW9udGhlbmQtZGV2LW9uZQ --config "$configuration"
fi

exec java "-Xms$KAFKA_HEAP" "-Xmx$KAFKA_HEAP" -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError -XX:-UsePerfData \
    -Djava.io.tmpdir="$volume/tmp" -Dlog4j2.level=WARN \
    -cp '/opt/kafka/lib/*' kafka.Kafka "$configuration" "$@"
