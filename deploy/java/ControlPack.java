package logcanary;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/** The control records since the last pack; streaming/frames.py says what a pack is. */
public final class ControlPack {
    private ByteBuffer buffer = ByteBuffer.allocate(64 * 1024).order(ByteOrder.LITTLE_ENDIAN);
    private int records;

    public int records() {
        return records;
    }

    public int bytes() {
        return buffer.position();
    }

    /** A record without a value (null) takes its key back. */
    public void add(byte[] key, byte[] value) {
        put(key);
        put(value);
        records++;
    }

    /** The pack of all records since the last. */
    public byte[] take() {
        byte[] pack = Arrays.copyOf(buffer.array(), buffer.position());
        buffer.clear();
        records = 0;
        return pack;
    }

    private void put(byte[] bytes) {
        int size = bytes == null ? 0 : bytes.length;
        if (buffer.remaining() < size + 4) {
            int used = buffer.position();
            int room = Math.max(2 * buffer.capacity(), used + size + 4);
            buffer = ByteBuffer.wrap(Arrays.copyOf(buffer.array(), room)).order(ByteOrder.LITTLE_ENDIAN);
            buffer.position(used);
        }
        buffer.putInt(bytes == null ? -1 : size);
        if (size > 0) {
            buffer.put(bytes);
        }
    }
}
