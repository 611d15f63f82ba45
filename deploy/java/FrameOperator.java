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
 *
 * Where those behind are busy, handing on takes long. The next batch then waits as long again: a frame costs the same
 * however few lines it has, so that larger ones are how a job that is behind catches up. And frames whose lines are
 * costly (never seen before) get smaller, since every other service waits behind each of them.
 */
public class FrameOperator extends AbstractStreamOperator
        implements OneInputStreamOperator, ProcessingTimeService.ProcessingTimeCallback {
    private static final long serialVersionUID = 1L;
    /** A batch waits no longer than this, however long the last one took to hand on. */
    private static final long LONGEST_MS = 2000;
    /** Handing on a frame takes longer where its lines are costly: the next ones have half as many, down to FEWEST. */
    private static final long SLOW_MS = 1000;
    private static final int FEWEST = 1000;

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
    private transient long wait;
    private transient int limit;

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
        wait = milliseconds;
        limit = frameLines;
    }

    public void processElement(StreamRecord element) throws Exception {
        Row row = (Row) element.getValue();
        FrameBuffer buffer = buffer((String) row.getField(0), (Integer) row.getField(1));
        int before = buffer.bytes();
        buffer.add(((Long) row.getField(2)).longValue(), ((Long) row.getField(3)).longValue(), (byte[]) row.getField(4));
        bytes += buffer.bytes() - before;
        if (buffer.lines() >= limit || buffer.bytes() >= frameBytes) {
            emit(buffer);
        } else if (bytes >= batchBytes) {
            emitAll();
        } else if (!waiting) {
            waiting = true;
            ProcessingTimeService clock = getProcessingTimeService();
            clock.registerTimer(clock.getCurrentProcessingTime() + wait, this);
        }
    }

    public void onProcessingTime(long timestamp) throws Exception {
        waiting = false;
        long began = System.nanoTime();
        emitAll();
        wait = Math.max(milliseconds, Math.min(LONGEST_MS, millisSince(began)));
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
            buffer = new FrameBuffer(topic, partition.intValue(), lineBytes);
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
        row.setField(1, buffer.take());
        long began = System.nanoTime();
        output.collect(new StreamRecord(row));
        long took = millisSince(began);
        if (took > SLOW_MS) {
            limit = Math.max(FEWEST, limit / 2);
        } else if (took < SLOW_MS / 4) {
            limit = Math.min(frameLines, limit * 2);
        }
    }

    private static long millisSince(long nanoTime) {
        return (System.nanoTime() - nanoTime) / 1000000;
    }
}
