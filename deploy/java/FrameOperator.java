package logcanary;

import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.api.common.operators.ProcessingTimeService;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.types.Row;

/**
 * Collects lines into frames, one a partition, so that Python is entered once a batch: rows of key and frame.
 *
 * A frame ends with the line that fills it (lines, bytes); all frames end when their bytes together pass a bound, when
 * the oldest line has waited for the batch's time, and before a checkpoint, so that there is nothing to be saved.
 * How long that time is, and how many lines fill a frame, follows those behind (FramePace).
 */
public class FrameOperator extends AbstractStreamOperator
        implements OneInputStreamOperator, ProcessingTimeService.ProcessingTimeCallback {
    private static final long serialVersionUID = 1L;

    private final int lineBytes;
    private final int frameLines;
    private final int frameBytes;
    private final long batchBytes;
    private final long milliseconds;

    private transient Map topics;
    private transient String lastTopic;
    private transient Map lastPartitions;
    private transient long bytes;
    private transient boolean waiting;
    private transient FramePace pace;
    private transient KeyPlace places;

    /** Of a line at most lineBytes are kept; a frame and all frames together are bounded as said above. */
    public FrameOperator(int lineBytes, int frameLines, int frameBytes, long batchBytes, long milliseconds) {
        this.lineBytes = lineBytes;
        this.frameLines = frameLines;
        this.frameBytes = frameBytes;
        this.batchBytes = batchBytes;
        this.milliseconds = milliseconds;
    }

    public void open() throws Exception {
        super.open();
        topics = new LinkedHashMap();
        pace = new FramePace(frameLines, milliseconds);
        places = new KeyPlace();
    }

    public void processElement(StreamRecord element) throws Exception {
        Row row = (Row) element.getValue();
        FrameBuffer buffer = buffer((String) row.getField(0), (Integer) row.getField(1));
        int before = buffer.bytes();
        buffer.add(((Long) row.getField(2)).longValue(), ((Long) row.getField(3)).longValue(), (byte[]) row.getField(4));
        bytes += buffer.bytes() - before;
        if (buffer.lines() >= pace.lines() || buffer.bytes() >= frameBytes) {
            emit(buffer);
        } else if (bytes >= batchBytes) {
            emitAll();
        } else if (!waiting) {
            waiting = true;
            ProcessingTimeService clock = getProcessingTimeService();
            clock.registerTimer(clock.getCurrentProcessingTime() + pace.milliseconds(), this);
        }
    }

    public void onProcessingTime(long timestamp) throws Exception {
        waiting = false;
        long began = System.nanoTime();
        emitAll();
        pace.batchTook(millisSince(began));
    }

    public void prepareSnapshotPreBarrier(long checkpoint) throws Exception {
        emitAll();
    }

    public void finish() throws Exception {
        emitAll();
        super.finish();
    }

    private FrameBuffer buffer(String topic, Integer partition) {
        if (topic != lastTopic) {
            lastPartitions = (Map) topics.get(topic);
            if (lastPartitions == null) {
                lastPartitions = new LinkedHashMap();
                topics.put(topic, lastPartitions);
            }
            lastTopic = topic;
        }
        FrameBuffer buffer = (FrameBuffer) lastPartitions.get(partition);
        if (buffer == null) {
            buffer = new FrameBuffer(places.key(topic + "/", partition.intValue()), topic, partition.intValue(), lineBytes);
            lastPartitions.put(partition, buffer);
        }
        return buffer;
    }

    private void emitAll() {
        for (Iterator all = topics.values().iterator(); all.hasNext();) {
            for (Iterator some = ((Map) all.next()).values().iterator(); some.hasNext();) {
                FrameBuffer buffer = (FrameBuffer) some.next();
                if (buffer.lines() > 0) {
                    emit(buffer);
                }
            }
        }
        // A buffer keeps the size of its largest frame: those of partitions that have gone quiet are not to stay.
        topics.clear();
        lastTopic = null;
    }

    private void emit(FrameBuffer buffer) {
        bytes -= buffer.bytes();
        Row row = new Row(2);
        row.setField(0, buffer.key());
        int lines = buffer.lines();
        row.setField(1, buffer.take());
        long began = System.nanoTime();
        output.collect(new StreamRecord(row));
        pace.frameTook(lines, millisSince(began));
    }

    private static long millisSince(long nanoTime) {
        return (System.nanoTime() - nanoTime) / 1000000;
    }
}
