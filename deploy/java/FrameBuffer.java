package logcanary;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** The lines of one partition since the last frame; streaming/frames.py says what a frame is. */
public final class FrameBuffer {
    private static final int FORMAT = 1;
    private static final int HEADER_BYTES = 17;

    private final String key;
    private final byte[] topic;
    private final int partition;
    private final int limit;
    private long[] offsets = new long[256];
    private long[] arrivals = new long[256];
    private int[] lengths = new int[256];
    private int[] originals = new int[256];
    private byte[] blob = new byte[32 * 1024];
    private boolean cut;
    private int lines;
    private int bytes;

    public FrameBuffer(String key, String topic, int partition, int limit) {
        this.key = key;
        this.topic = topic.getBytes(StandardCharsets.UTF_8);
        this.partition = partition;
        this.limit = limit;
    }

    public String key() {
        return key;
    }

    public int lines() {
        return lines;
    }

    /** Of the lines alone. */
    public int bytes() {
        return bytes;
    }

    /** A line of more than the limit is cut; null is a record without a value. */
    public void add(long offset, long arrival, byte[] line) {
        if (lines == offsets.length) {
            offsets = Arrays.copyOf(offsets, 2 * lines);
            arrivals = Arrays.copyOf(arrivals, 2 * lines);
            lengths = Arrays.copyOf(lengths, 2 * lines);
            originals = Arrays.copyOf(originals, 2 * lines);
        }
        int original = line == null ? -1 : line.length;
        int length = Math.min(original, limit);
        offsets[lines] = offset;
        arrivals[lines] = arrival;
        lengths[lines] = length;
        originals[lines] = original;
        cut |= length < original;
        lines++;
        if (length > 0) {
            if (bytes + length > blob.length) {
                blob = Arrays.copyOf(blob, Math.max(2 * blob.length, bytes + length));
            }
            System.arraycopy(line, 0, blob, bytes, length);
            bytes += length;
        }
    }

    /** The frame of all lines since the last. */
    public byte[] take() {
        int size = HEADER_BYTES + topic.length + lines * (cut ? 24 : 20) + bytes;
        ByteBuffer out = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
        out.put((byte) 'L').put((byte) 'C').put((byte) 'F').put((byte) 'R');
        out.putShort((short) FORMAT).putShort((short) topic.length).putInt(partition).putInt(lines);
        out.put((byte) (cut ? 1 : 0)).put(topic);
        longs(out, offsets);
        longs(out, arrivals);
        ints(out, lengths);
        if (cut) {
            ints(out, originals);
        }
        out.put(blob, 0, bytes);
        lines = 0;
        bytes = 0;
        cut = false;
        return out.array();
    }

    private void longs(ByteBuffer out, long[] values) {
        out.asLongBuffer().put(values, 0, lines);
        out.position(out.position() + 8 * lines);
    }

    private void ints(ByteBuffer out, int[] values) {
        out.asIntBuffer().put(values, 0, lines);
        out.position(out.position() + 4 * lines);
    }
}
