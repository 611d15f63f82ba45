package logcanary;

import org.apache.flink.api.common.operators.ProcessingTimeService;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.types.Row;

/**
 * Collects control records, rows of key and value, into packs, so that Python is entered once for many: the templates
 * of one service would otherwise hold up the lines of all others.
 *
 * A pack ends with the record that fills it (records, bytes), when its first record has waited for the given time, and
 * before a checkpoint, so that there is nothing to be saved.
 */
public class ControlOperator extends AbstractStreamOperator
        implements OneInputStreamOperator, ProcessingTimeService.ProcessingTimeCallback {
    private static final long serialVersionUID = 1L;

    private final int packRecords;
    private final int packBytes;
    private final long milliseconds;

    private transient ControlPack pack;
    private transient boolean waiting;

    public ControlOperator(int packRecords, int packBytes, long milliseconds) {
        this.packRecords = packRecords;
        this.packBytes = packBytes;
        this.milliseconds = milliseconds;
    }

    public void open() throws Exception {
        super.open();
        pack = new ControlPack();
    }

    public void processElement(StreamRecord element) throws Exception {
        Row row = (Row) element.getValue();
        pack.add((byte[]) row.getField(0), (byte[]) row.getField(1));
        if (pack.records() >= packRecords || pack.bytes() >= packBytes) {
            emit();
        } else if (!waiting) {
            waiting = true;
            ProcessingTimeService clock = getProcessingTimeService();
            clock.registerTimer(clock.getCurrentProcessingTime() + milliseconds, this);
        }
    }

    public void onProcessingTime(long timestamp) throws Exception {
        waiting = false;
        emit();
    }

    public void prepareSnapshotPreBarrier(long checkpoint) throws Exception {
        emit();
    }

    public void finish() throws Exception {
        emit();
        super.finish();
    }

    private void emit() {
        if (pack.records() > 0) {
            output.collect(new StreamRecord(pack.take()));
        }
    }
}
