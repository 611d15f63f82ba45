package logcanary;

/**
 * How long a batch of frames waits for lines, and how many of them a frame has, by how long the last ones took to hand on.
 *
 * Handing on takes long where those behind are busy. The next batch then waits as long again: a frame costs the same
 * however few lines it has, so that larger ones are how a job that is behind catches up. And frames whose lines are costly
 * (of shapes never seen before) get smaller, since every other service waits behind each of them.
 */
public class FramePace {
    /** No batch waits longer, however long the last one took. */
    private static final long LONGEST_MS = 2000;
    /** A frame that took longer was too large: the next ones have half as many lines, down to FEWEST. */
    private static final long SLOW_MS = 1000;
    /** One that took less was not: twice as many, up to what is allowed. */
    private static final long FAST_MS = 250;
    private static final int FEWEST = 1000;

    private final int most;
    private final long shortest;
    private int lines;
    private long wait;

    /** Frames have at most so many lines, and a batch waits at least so many milliseconds. */
    public FramePace(int most, long shortest) {
        this.most = most;
        this.shortest = shortest;
        lines = most;
        wait = shortest;
    }

    /** All frames were handed on because their time was up, in so many milliseconds. */
    public void batchTook(long milliseconds) {
        wait = Math.max(shortest, Math.min(LONGEST_MS, milliseconds));
    }

    /** One frame of so many lines was handed on in so many milliseconds; a small one that was fast says nothing. */
    public void frameTook(int size, long milliseconds) {
        if (milliseconds > SLOW_MS && size > FEWEST) {
            lines = Math.max(FEWEST, Math.min(size, lines) / 2);
        } else if (milliseconds < FAST_MS && size >= lines) {
            lines = Math.min(most, lines * 2);
        }
    }

    /** Lines of a frame at most. */
    public int lines() {
        return lines;
    }

    /** Milliseconds that a batch waits. */
    public long milliseconds() {
        return wait;
    }
}
