package logcanary;

import org.apache.flink.api.common.typeinfo.BasicTypeInfo;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.java.typeutils.RowTypeInfo;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.types.Row;
import org.apache.flink.util.Collector;

/** A record of a topic of lines as a row: topic, partition, offset, arrival (ms), line (null: it has none). */
public class LineDeserializer implements KafkaRecordDeserializationSchema {
    private static final long serialVersionUID = 1L;

    public void deserialize(ConsumerRecord record, Collector out) {
        Row row = new Row(5);
        row.setField(0, record.topic());
        row.setField(1, Integer.valueOf(record.partition()));
        row.setField(2, Long.valueOf(record.offset()));
        row.setField(3, Long.valueOf(record.timestamp()));
        row.setField(4, record.value());
        out.collect(row);
    }

    public TypeInformation getProducedType() {
        return new RowTypeInfo(new TypeInformation[] {
            BasicTypeInfo.STRING_TYPE_INFO,
            BasicTypeInfo.INT_TYPE_INFO,
            BasicTypeInfo.LONG_TYPE_INFO,
            BasicTypeInfo.LONG_TYPE_INFO,
            PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO
        });
    }
}
