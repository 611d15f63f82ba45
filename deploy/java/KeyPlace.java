package logcanary;

import java.util.HashMap;
import java.util.Map;

/**
 * Keys that Flink spreads evenly; streaming/placing.py says why and how, and makes the same ones.
 */
public final class KeyPlace {
    private static final int GROUPS = 128;
    private static final int SLICES = 8;
    private static final int WIDTH = GROUPS / SLICES;
    private static final int[] TURNS = {0, 4, 2, 6, 1, 5, 3, 7};
    private static final int MOST = 100000;

    private final Map known = new HashMap();

    /** The key of a number (a partition) under a stem (a topic). */
    public String key(String stem, int number) {
        String plain = stem + number;
        String key = (String) known.get(plain);
        if (key == null) {
            key = place(stem, number);
            if (known.size() >= MOST) {
                known.clear();
            }
            known.put(plain, key);
        }
        return key;
    }

    private static String place(String stem, int number) {
        int slice = (group(stem) / WIDTH + TURNS[number % SLICES]) % SLICES;
        String key = stem + number;
        for (int salt = 1; group(key) / WIDTH != slice; salt++) {
            key = stem + number + "~" + salt;
        }
        return key;
    }

    /** The key group that Flink gives a row of one field, where there are 128: KeyGroupRangeAssignment, MathUtils. */
    public static int group(String key) {
        int code = 62 + key.hashCode();
        code *= 0xcc9e2d51;
        code = Integer.rotateLeft(code, 15);
        code *= 0x1b873593;
        code = Integer.rotateLeft(code, 13);
        code = code * 5 + 0xe6546b64;
        code ^= 4;
        code ^= code >>> 16;
        code *= 0x85ebca6b;
        code ^= code >>> 13;
        code *= 0xc2b2ae35;
        code ^= code >>> 16;
        return (code == Integer.MIN_VALUE ? 0 : Math.abs(code)) % GROUPS;
    }
}
