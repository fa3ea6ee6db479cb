/* stripes.pml -- the sequence lock of mapped files: c_src/core/stripes.h, and copy_in and copy_out
 * of c_src/store/file.c.
 *
 * Two stripes of two words; two writers and two readers, each with a range that covers the first
 * stripe, the second or both, as the checker likes. A writer locks its stripes (at first without
 * waiting: if that fails, it lets go of what it has and waits), stores every word of them, unlocks.
 * A reader copies without a lock, at most twice, then with the writers' lock. What is proven and
 * assumed: README.md.
 *
 * Properties, by the name with which the checker reports them:
 *   torn       a reader accepted a part of a write without the rest
 *   two_hold   two are in one stripe at once
 *   unordered  a store is not ordered after the earlier ones to its word, or who holds a lock does
 *              not see the last
 *   deadlock   somebody waits for ever
 *   endless    somebody runs for ever
 *
 * Runs, each a macro in capitals; "cycles": the checker looks for what repeats, and nothing may:
 *   run all_ranges
 *   run loads_one_by_one                  each load and store a step of its own; one reader
 *   run every_run_ends                    cycles; the first writer and the first reader have both
 *
 * Mutants, each a macro in capitals, and the property that it must break:
 *   mutant reader_does_not_look_again     torn
 *   mutant reader_looks_at_first_only     torn
 *   mutant reader_begins_relaxed          torn
 *   mutant reader_ignores_odd             torn
 *   mutant reader_leaves_out_fence        torn
 *   mutant reader_locks_nothing           torn
 *   mutant reader_tries_for_ever          endless
 *   mutant writer_leaves_it_even          torn
 *   mutant writer_leaves_out_fence        torn
 *   mutant writer_unlocks_relaxed         torn
 *   mutant writer_unlocks_before_storing  torn
 *   mutant lock_relaxed                   unordered
 *   mutant lock_in_two_steps              two_hold
 *   mutant locks_in_opposite_orders       deadlock
 */

/* -------------------------------------------------------------------------------------- memory
 *
 * C11's acquire, release, relaxed and fences, as views. Each word keeps all that was ever stored in
 * it, numbered from 0; a view says of each word from which number on its owner may still read. A
 * load takes any store that the thread's view allows: so stores become visible in any order, and
 * loads happen in any, but for what the fences and orders rule out.
 *
 *   now       what the thread's next load must respect
 *   fenced    what it will have to respect after an acquire fence
 *   released  what it had to respect at its last release fence
 *
 * Each store carries a view for whoever reads it: a release store the thread's whole view, a
 * relaxed one that of the last release fence.
 */
#define STRIPES 2
#define STORES 13 /* in a number, the first included: 2 writers lock twice, 2 readers once */
#define WRITES 3  /* in a word, the first included */

/* Where a word stands in a view, which has 4 bits for each: first the numbers, then the words. */
#define NUMBER(s) (s)
#define WORD(s, w) (STRIPES + 2 * (s) + (w))

#define AT(view, word) (((view) >> (4 * (word))) & 15)
#define ONLY(word, n) ((n) << (4 * (word)))
#define MOST(a, b, bits) (((a) & (bits)) > ((b) & (bits)) -> ((a) & (bits)) : ((b) & (bits)))
#define JOIN(a, b)                                                                                 \
    (MOST(a, b, 15) | MOST(a, b, 240) | MOST(a, b, 3840) | MOST(a, b, 61440) |                     \
     MOST(a, b, 983040) | MOST(a, b, 15728640))

byte number_last[STRIPES];
int number_view[STRIPES * STORES];
byte word_last[STRIPES * 2];
int word_view[STRIPES * 2 * WRITES];

#define NUMBER_VIEW(s, n) number_view[(s) * STORES + (n)]
#define WORD_LAST(s, w) word_last[2 * (s) + (w)]
#define WORD_VIEW(s, w, n) word_view[(2 * (s) + (w)) * WRITES + (n)]

#define THREAD                                                                                     \
    int now, fenced, released, view;                                                               \
    byte n, range

/* n: any store from the oldest that may still be read to the last. */
inline any_store(word, last) {
    n = AT(now, word);
    do
    :: n < last -> n++
    :: break
    od
}

inline see(word) {
    view = JOIN(view, ONLY(word, n));
    fenced = JOIN(fenced, view);
}

inline load_acquire(s, out) {
    atomic {
        any_store(NUMBER(s), number_last[s]);
        view = NUMBER_VIEW(s, n);
        see(NUMBER(s));
#ifdef READER_BEGINS_RELAXED
        view = ONLY(NUMBER(s), n);
#endif
        now = JOIN(now, view);
        out = n;
        n = 0;
        view = 0
    }
}

inline load_word(s, w, out) {
    atomic {
        any_store(WORD(s, w), WORD_LAST(s, w));
        view = WORD_VIEW(s, w, n);
        see(WORD(s, w));
        view = ONLY(WORD(s, w), n);
        now = JOIN(now, view);
        out = n;
        n = 0;
        view = 0
    }
}

inline store_word(s, w) {
    atomic {
        unordered = AT(now, WORD(s, w)) != WORD_LAST(s, w);
        assert_ordered();
        WORD_LAST(s, w) = WORD_LAST(s, w) + 1;
        view = ONLY(WORD(s, w), WORD_LAST(s, w));
        now = JOIN(now, view);
        fenced = JOIN(fenced, view);
        WORD_VIEW(s, w, WORD_LAST(s, w)) = JOIN(released, view);
        view = 0
    }
}

/* A load may as well happen later, when it can still take whatever it could take before; a store of
 * a word may as well happen earlier, when nobody need take it. So the stores of a write are one
 * step, and the loads of a reader up to its lock. */
#ifdef LOADS_ONE_BY_ONE
#define STEP
#else
#define STEP atomic
#endif

inline fence_acquire() { now = fenced }

/* ----------------------------------------------------------------------------- what is checked */

bool torn, two_hold, unordered;

/* A mutant that breaks the order is to be found by what that does to a reader without a lock. */
inline assert_ordered() {
#if defined(WRITER_UNLOCKS_RELAXED) || defined(WRITER_UNLOCKS_BEFORE_STORING)
    unordered = false
#else
    assert(!unordered)
#endif
}

byte holder[STRIPES]; /* 0, or who is in the stripe */

/* The number that a write of both stripes has in the words of each; 0: no such write yet. */
byte both_as[2 * STRIPES];

#define ME (_pid + 1)
#define COVERS(range, s) (((range) >> (s)) & 1)
#define BOTH 3

#define SPLIT(i)                                                                                   \
    (both_as[2 * (i)] != 0 &&                                                                      \
     (copy[0] >= both_as[2 * (i)]) != (copy[2] >= both_as[2 * (i) + 1]))

/* The t-th store of a word is by the t-th writer of its stripe. */
inline accept() {
    d_step {
        torn = (COVERS(range, 0) && copy[0] != copy[1]) ||
               (COVERS(range, 1) && copy[2] != copy[3]) ||
               (range == BOTH && (SPLIT(0) || SPLIT(1)));
        assert(!torn)
    }
}

/* ------------------------------------------------------------------------------------ stripes.h */

#ifdef WRITER_LEAVES_IT_EVEN /* and has a lock beside the number */
#define ODD(n) false
#define LOCKED(s) (holder[s] != 0)
#else
#define ODD(n) ((n) % 2 == 1)
#define LOCKED(s) ODD(number_last[s])
#endif

/* The compare-and-swap that succeeds, with stripe_try_lock's fence; one that fails changes
 * nothing. */
inline make_odd(s) {
    two_hold = holder[s] != 0;
    assert(!two_hold);
    holder[s] = ME;
    view = NUMBER_VIEW(s, number_last[s]);
    fenced = JOIN(fenced, view);
#ifdef WRITER_LEAVES_IT_EVEN
    now = JOIN(now, view);
#else
    number_last[s] = number_last[s] + 1;
#ifndef LOCK_RELAXED
    now = JOIN(now, view);
#endif
    /* What is read from a read-modify-write is also what was released before it. */
    view = JOIN(view, released);
    view = JOIN(view, ONLY(NUMBER(s), number_last[s]));
    NUMBER_VIEW(s, number_last[s]) = view;
    view = ONLY(NUMBER(s), number_last[s]);
    now = JOIN(now, view);
    fenced = JOIN(fenced, view);
#endif
#ifndef WRITER_LEAVES_OUT_FENCE
    released = now;
#endif
    view = 0
}

#ifdef LOCK_IN_TWO_STEPS
#define LOCKING
#else
#define LOCKING atomic
#endif

inline lock(s) {
    LOCKING {
        !LOCKED(s);
        d_step { make_odd(s) }
    }
}

inline unlock(s) {
    d_step {
        unordered = AT(now, NUMBER(s)) != number_last[s];
        assert_ordered();
        holder[s] = 0;
        number_last[s] = number_last[s] + 1;
        view = ONLY(NUMBER(s), number_last[s]);
        now = JOIN(now, view);
        fenced = JOIN(fenced, view);
#ifdef WRITER_UNLOCKS_RELAXED
        NUMBER_VIEW(s, number_last[s]) = JOIN(released, view);
#else
        NUMBER_VIEW(s, number_last[s]) = now;
#endif
        view = 0
    }
}

/* --------------------------------------------------------------------------------------- file.c */

inline choose_range(me) {
    if
    :: range = BOTH
#ifdef EVERY_RUN_ENDS
    :: me == 1 -> range = 1
    :: me == 1 -> range = 2
#else
    :: range = 1
    :: range = 2
#endif
    fi
}

/* Nothing that is no longer needed makes two states of one. */
inline forget() {
    d_step { now = 0; fenced = 0; released = 0; range = 0 }
}

inline store_stripe(s) {
    if
    :: COVERS(range, s) -> store_word(s, 0); store_word(s, 1)
    :: else
    fi
}

inline unlock_covered(s) {
    atomic {
        if
        :: COVERS(range, s) -> unlock(s)
        :: else
        fi
    }
}

inline note_both() {
    d_step {
        if
        :: range == BOTH ->
            both_as[2 * me] = WORD_LAST(0, 0) + 1;
            both_as[2 * me + 1] = WORD_LAST(1, 0) + 1
        :: else
        fi
    }
}

/* copy_in */
proctype writer(byte me) {
    THREAD;
    bool wait;

    choose_range(me);
again:
    skip; /* not in one step with what went before */
    LOCKING {
        if
#ifdef LOCKS_IN_OPPOSITE_ORDERS
        :: me == 1 && range == BOTH -> lock(1); lock(0); goto locked
#endif
        :: COVERS(range, 0) ->
            if
            :: lock(0)
            :: !wait -> wait = true; goto again
            fi
        :: else
        fi
    }
    LOCKING {
        if
        :: COVERS(range, 1) ->
            if
            :: lock(1)
            :: !wait -> unlock_covered(0); wait = true; goto again
            fi
        :: else
        fi
    }
locked:
#ifdef WRITER_UNLOCKS_BEFORE_STORING
    note_both();
    unlock_covered(0);
    unlock_covered(1);
#endif
    STEP {
#ifndef WRITER_UNLOCKS_BEFORE_STORING
        note_both();
#endif
        store_stripe(0);
        store_stripe(1)
    }
#ifndef WRITER_UNLOCKS_BEFORE_STORING
    unlock_covered(0);
    atomic { unlock_covered(1); forget(); wait = false }
#endif
}

inline forget_copy() {
    d_step {
        seen[0] = 0; seen[1] = 0;
        copy[0] = 0; copy[1] = 0; copy[2] = 0; copy[3] = 0
    }
}

/* The next try does not know what this one has seen, which allows more than C11 does. */
inline give_up() {
    d_step { now = 0; fenced = 0 }
    forget_copy()
}

inline read_begin(s) {
    if
    :: COVERS(range, s) ->
        load_acquire(s, seen[s]);
#ifndef READER_IGNORES_ODD
        if
        :: ODD(seen[s]) -> give_up(); goto again
        :: else
        fi
#endif
    :: else
    fi
}

inline copy_stripe(s) {
    if
    :: COVERS(range, s) ->
        load_word(s, 0, copy[2 * s]);
        load_word(s, 1, copy[2 * s + 1])
    :: else
    fi
}

/* The same number, where that may still be read; or another, no matter which. */
inline read_end(s) {
    if
    :: COVERS(range, s) ->
#ifndef READER_LEAVES_OUT_FENCE
        fence_acquire();
#endif
        if
        :: AT(now, NUMBER(s)) <= seen[s]
        :: number_last[s] > seen[s] -> give_up(); goto again
        fi
    :: else
    fi
}

inline lock_covered(s) {
    LOCKING {
        if
        :: COVERS(range, s) -> lock(s)
        :: else
        fi
    }
}

inline see_last(s) {
    d_step {
        unordered = COVERS(range, s) && (copy[2 * s] != WORD_LAST(s, 0) ||
                                         copy[2 * s + 1] != WORD_LAST(s, 1));
        assert_ordered()
    }
}

/* copy_out */
proctype reader(byte me) {
    THREAD;
    byte tries;
    byte seen[STRIPES];
    byte copy[STRIPES * 2];

    choose_range(me);
again:
    if
    :: STEP { tries < 2 ->
#ifndef READER_TRIES_FOR_EVER
            tries++;
#endif
            read_begin(0);
            read_begin(1);
            copy_stripe(0);
            copy_stripe(1);
#ifndef READER_DOES_NOT_LOOK_AGAIN
            read_end(0);
#ifndef READER_LOOKS_AT_FIRST_ONLY
            read_end(1);
#endif
#endif
            accept();
            forget();
            forget_copy();
            tries = 0
        }
    :: LOCKING { tries == 2 ->
#ifndef READER_LOCKS_NOTHING
            lock_covered(0)
#endif
        }
#ifndef READER_LOCKS_NOTHING
        lock_covered(1);
#endif
        STEP {
            copy_stripe(0);
            copy_stripe(1);
            accept();
#ifndef READER_LOCKS_NOTHING
            see_last(0);
            see_last(1);
#endif
            forget_copy();
            tries = 0
        }
#ifndef READER_LOCKS_NOTHING
        unlock_covered(0);
        atomic { unlock_covered(1); forget() }
#endif
    fi
}

init {
    atomic {
        run writer(0);
        run writer(1);
        run reader(0);
#ifndef LOADS_ONE_BY_ONE
        run reader(1)
#endif
    }
}
