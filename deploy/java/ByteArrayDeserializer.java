package org.apache.flink.kafka.shaded.org.apache.kafka.common.serialization;

import java.util.Arrays;
import java.util.Map;

/**
 * Takes the place of Kafka's class of this name in the connector (Kafka 4 in Flink's connector 5.0): bytes as they are.
 *
 * Kafka unpacks compressed records as they are polled, so that a poll of a fetched megabyte may be a gigabyte, and the
 * source holds several polls. Where a consumer has the property logcanary.value.bytes, this one cuts what is longer
 * before it is kept. Nothing else differs. See deploy/classes.py.
 */
public class ByteArrayDeserializer implements Deserializer {
    private int most = Integer.MAX_VALUE;

    public void configure(Map configs, boolean isKey) {
        Object given = configs.get("logcanary.value.bytes");
        if (given != null) {
            most = Integer.parseInt(given.toString());
        }
    }

    public Object deserialize(String topic, byte[] data) {
        return data == null || data.length <= most ? data : Arrays.copyOf(data, most);
    }
}
