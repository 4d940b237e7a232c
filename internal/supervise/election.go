package supervise

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/redis"
)

// SENTINEL FAILOVER has one Sentinel promote a replica without the votes of the others. If these
// find the master down meanwhile, they elect a leader of their own, which may promote another
// replica, even in the same epoch. So the supervisor first asks for the votes, as that Sentinel
// would. A majority that has voted elects no other leader in this epoch, and begins no failover
// by itself for twice the failover time-out.

// voteLimit is how long the Sentinels may take to vote.
const voteLimit = 150 * time.Millisecond

// elect has a majority of the Sentinels vote for the leader, and has the leader begin a
// failover. An error means that the failover has not begun.
func (w *succession) elect(ctx context.Context, leader string) error {
	limited, cancel := context.WithTimeout(ctx, 2*voteLimit)
	defer cancel()
	id, err := w.admin(leader).SentinelID(limited)
	if err != nil {
		return fmt.Errorf("ask %s for its id: %w", leader, err)
	}

	epoch, err := w.awaitVotes(limited, leader, id)
	if err != nil {
		return err
	}

	w.voted = epoch
	if err := w.askOne(ctx, leader); err != nil {
		return err
	}

	// The leader takes its next epoch. That is the one that the Sentinels voted in, unless one
	// of them has just told the leader of it. In that case they vote in the following one, too.
	own, err := w.admin(leader).AskVote(ctx, w.address(w.from), epoch, id)
	if err == nil && own != (redis.Vote{Leader: id, Epoch: epoch}) {
		w.votes(ctx, leader, id, epoch+1)
	}
	return nil
}

// awaitVotes has a majority vote for a Sentinel, and returns the epoch of the votes, which is
// that Sentinel's next one.
func (w *succession) awaitVotes(ctx context.Context, leader, id string) (epoch int64, err error) {
	const tries = 3
	epoch = w.lastEpoch(ctx, id)
	for range tries {
		// This tells it of the last epoch, which it may not know yet.
		if _, err := w.admin(leader).AskVote(ctx, w.address(w.from), epoch, id); err != nil {
			return 0, fmt.Errorf("ask %s to vote: %w", leader, err)
		}
		epoch++
		if w.votes(ctx, leader, id, epoch) {
			return epoch, nil
		}
	}
	return 0, fmt.Errorf("no majority of the Sentinels votes for %s", leader)
}

// lastEpoch returns the highest epoch that any Sentinel has voted in, or knows a master of.
func (w *succession) lastEpoch(ctx context.Context, id string) (last int64) {
	for _, v := range w.facts.Views {
		last = max(last, v.Epoch)
	}
	for vote := range w.ask(ctx, w.sup.sentinels(), 0, id) {
		last = max(last, vote.Epoch)
	}
	return last
}

// votes asks the other Sentinels to vote for the leader in an epoch, and reports whether it has
// a majority, its own vote included. It returns as soon as there is a majority.
func (w *succession) votes(ctx context.Context, leader, id string, epoch int64) bool {
	others := slices.DeleteFunc(w.sup.sentinels(), func(name string) bool { return name == leader })
	votes, majority := 1, len(w.sup.sentinels())/2+1
	for vote := range w.ask(ctx, others, epoch, id) {
		if vote == (redis.Vote{Leader: id, Epoch: epoch}) {
			votes++
		}
		if votes >= majority {
			return true
		}
	}
	return votes >= majority
}

// ask asks Sentinels for their votes. The channel yields the replies, and is closed when all
// have come or the time is over.
func (w *succession) ask(ctx context.Context, sentinels []string, epoch int64, id string) <-chan redis.Vote {
	came := make(chan redis.Vote, len(sentinels))
	var all sync.WaitGroup
	for _, name := range sentinels {
		all.Add(1)
		w.sup.tasks.Go(func() {
			defer all.Done()
			ctx, cancel := context.WithTimeout(ctx, voteLimit)
			defer cancel()
			if vote, err := w.admin(name).AskVote(ctx, w.address(w.from), epoch, id); err == nil {
				came <- vote
			}
		})
	}

	w.sup.tasks.Go(func() {
		all.Wait()
		close(came)
	})
	return came
}
