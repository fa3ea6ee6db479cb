/* queue_lock.pml -- the lock of a queue, a step under it, and what becomes of both when their holder
 * is killed: c_src/store/queue_lock.c, and the participants of queue_open.c.
 *
 * Two OS processes have the queue open; each may be killed at any step. Every thread takes the lock
 * once, from nobody or from a dead holder, finishes what that has begun, and raises two words by one,
 * which are to be equal. In one run each has two threads; in the other a third OS process, which may be
 * killed too, opens the queue at any time. What is proven and assumed: README.md.
 *
 * Properties, by the name with which the checker reports them:
 *   two_hold   two that live hold the lock at once
 *   torn       who has the lock finds one word raised and the other not
 *   lost       a step that was acknowledged is not there, or one is there that nobody began
 *   deadlock   somebody who lives waits for ever
 *
 * Runs, each a macro in capitals:
 *   run two_threads_each
 *   run opened_meanwhile
 *
 * Mutants, each a macro in capitals, and the property that it must break:
 *   mutant redo_is_left_out             torn
 *   mutant redo_number_before_pairs     torn
 *   mutant words_before_redo            torn
 *   mutant redo_ends_before_words       torn
 *   mutant unlock_before_words          two_hold
 *   mutant redo_outlives_the_step       torn
 *   mutant takeover_in_two_steps        two_hold
 *   mutant takeover_from_the_living     two_hold
 *   mutant incarnation_is_ignored       deadlock
 *   mutant lock_in_two_steps            two_hold
 *   mutant dead_are_not_looked_for      deadlock
 *   mutant opener_does_not_redo         torn
 *   mutant opener_does_not_unlock       deadlock
 */

#define PROCESSES 3
#define PARTICIPANTS 3

/* A holder: participant and incarnation in one. 0: nobody. */
#define HOLDER(participant, n) (((participant) + 1) * 4 + (n))
#define PARTICIPANT_OF(holder) ((holder) / 4 - 1)
#define INCARNATION_OF(holder) ((holder) % 4)

/* ---------------------------------------------------------------------------------- the file */

byte lock;
byte redo_n, redo_first, redo_second;
byte first, second;
byte incarnation[PARTICIPANTS];

/* ------------------------------------------------------------------------- the kernel's, and ours */

bool byte_locked[PARTICIPANTS]; /* let go of with its OS process */
bool alive[PROCESSES], joined[PROCESSES], has_byte[PROCESSES];
byte participant[PROCESSES], me[PROCESSES];
byte holding[PROCESSES]; /* how many of its threads hold the lock */
byte begun, acknowledged;

#define HELD                                                                                       \
    ((alive[0] -> holding[0] : 0) + (alive[1] -> holding[1] : 0) + (alive[2] -> holding[2] : 0))

/* As queue_is_alive: of one's own number the incarnation tells. */
#ifdef INCARNATION_IS_IGNORED
#define IS_DEAD(k, holder) (!byte_locked[PARTICIPANT_OF(holder)])
#else
#define IS_DEAD(k, holder)                                                                         \
    (PARTICIPANT_OF(holder) == participant[k]                                                      \
         -> holder != me[k]                                                                        \
         : (incarnation[PARTICIPANT_OF(holder)] != INCARNATION_OF(holder) ||                       \
            !byte_locked[PARTICIPANT_OF(holder)]))
#endif

bool two_hold, torn, lost;

inline check_alone() {
    two_hold = HELD > 1;
    assert(!(two_hold))
}

inline check_words() {
    torn = first != second;
    assert(!(torn));
    lost = first < acknowledged || first > begun;
    assert(!(lost))
}

/* ------------------------------------------------------------------------------------ the code */

/* queue_redo, each store a step. */
inline redo() {
#ifdef REDO_IS_LEFT_OUT
    skip
#else
    if
    :: redo_n != 0 ->
        first = redo_first;
        second = redo_second;
        redo_n = 0
    :: else
    fi
#endif
}

/* wait_for_lock: from nobody, or from a holder that was seen to be dead. */
inline take(k) {
    do
#ifdef LOCK_IN_TWO_STEPS
    :: lock == 0 ->
        lock = me[k];
        holding[k]++;
        break
#else
    :: atomic { lock == 0 -> lock = me[k]; holding[k]++ };
        break
#endif
#ifndef DEAD_ARE_NOT_LOOKED_FOR
#ifdef TAKEOVER_FROM_THE_LIVING
    :: atomic { lock != 0 && lock != me[k] -> holder = lock };
#else
    :: atomic { lock != 0 && lock != me[k] && IS_DEAD(k, lock) -> holder = lock };
#endif
        if
#ifdef TAKEOVER_IN_TWO_STEPS
        :: lock == holder ->
            lock = me[k];
            holding[k]++;
#else
        :: atomic { lock == holder -> lock = me[k]; holding[k]++ };
#endif
            redo();
            break
        :: lock != holder
        fi
#endif
    od;
    holder = 0
}

/* queue_do: both words to what they are to be. */
inline step() {
    value = first + 1;
    begun++;
#ifdef WORDS_BEFORE_REDO
    first = value;
#endif
#ifdef REDO_NUMBER_BEFORE_PAIRS
    redo_n = 2;
    redo_first = value;
    redo_second = value;
#else
    redo_first = value;
    redo_second = value;
    redo_n = 2;
#endif
#ifdef REDO_ENDS_BEFORE_WORDS
    redo_n = 0;
#endif
    first = value;
#ifdef UNLOCK_BEFORE_WORDS
    lock = 0;
#endif
    second = value;
#ifndef REDO_OUTLIVES_THE_STEP
    redo_n = 0;
#endif
    value = 0
}

inline unlock(k) {
    atomic {
        holding[k]--;
        lock = 0
    }
}

inline work(k) {
    take(k);
    check_alone();
    check_words();
    step();
    check_alone();
    unlock(k);
    acknowledged++
}

proctype thread(byte k) {
    byte holder, value;
    {
        work(k)
    } unless { !alive[k] }
}

#ifndef TWO_THREADS_EACH
/* The lowest number whose byte nobody has; then its incarnation is raised. */
inline be_participant(k) {
    atomic {
        do
        :: byte_locked[participant[k]] -> participant[k]++
        :: else -> break
        od;
        byte_locked[participant[k]] = true;
        has_byte[k] = true
    };
    incarnation[participant[k]]++;
    me[k] = HOLDER(participant[k], incarnation[participant[k]])
}

/* Under the opening byte. Alone if nobody who lives has joined: whatever the lock says then. */
proctype opener(byte k) {
    byte holder, value;
    bool alone;
    {
        atomic { alone = !(alive[0] && joined[0]) && !(alive[1] && joined[1]) };
        be_participant(k);
        if
        :: alone ->
            lock = me[k];
            holding[k]++;
            check_alone();
#ifndef OPENER_DOES_NOT_REDO
            redo();
#endif
            check_words();
#ifdef OPENER_DOES_NOT_UNLOCK
            holding[k]--;
            participant[k] = participant[k]; /* as it is */
#else
            unlock(k);
#endif
        :: else
        fi;
        joined[k] = true;
        work(k)
    } unless { !alive[k] }
}

#endif

/* kill -9 at any step. */
proctype killer(byte k) {
    do
    :: atomic {
            alive[k] = false;
            if
            :: has_byte[k] -> byte_locked[participant[k]] = false
            :: else
            fi;
            holding[k] = 0
        };
        break
    :: break
    od
}

init {
    byte k;
    atomic {
        for (k : 0 .. 1) {
            alive[k] = true;
            joined[k] = true;
            participant[k] = k;
            byte_locked[k] = true;
            has_byte[k] = true;
            incarnation[k] = 1;
            me[k] = HOLDER(k, 1)
        }
        alive[2] = true;
        run thread(0);
        run thread(1);
#ifdef TWO_THREADS_EACH
        run thread(0);
        run thread(1);
#else
        run opener(2);
        run killer(2);
#endif
        run killer(0);
        run killer(1)
    }
}
