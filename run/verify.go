package run

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// verify replays steps from an older checkpoint, or from the start, up to the newest one, and compares the losses on the
// way and the hashes of weights, optimizer state and data order at the end. It writes nothing.
func (t *trainer) verify(ctx context.Context) error {
	_, want, err := newestCheckpoint(t.Config.Out, -1, func(string) {})
	if err != nil {
		return err
	}
	if t.resumed != nil {
		t.state = *t.resumed
	}
	from := t.state.Step
	if from >= want.Step {
		return fmt.Errorf("verify: the newest checkpoint of %s is at step %d; there is nothing to replay", t.Config.Out, want.Step)
	}
	recorded, err := t.recordedLosses()
	if err != nil {
		return err
	}
	for step := from; step < want.Step; step++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.replay(step, recorded); err != nil {
			return err
		}
	}
	return t.compareHashes(from, want)
}

// recordedLosses returns the training losses of metrics.jsonl by step, from 1.
func (t *trainer) recordedLosses() (map[int]float64, error) {
	lines, err := readMetrics(t.Config.Out)
	if err != nil {
		return nil, err
	}
	losses := map[int]float64{}
	for _, line := range lines {
		if line.Loss != nil {
			losses[line.Step] = *line.Loss
		}
	}
	return losses, nil
}

func (t *trainer) replay(step int, recorded map[int]float64) error {
	batch, err := t.corpus.Train().Batch(int64(step), t.Config.Batch)
	if err != nil {
		return err
	}
	result, err := t.engine.step(batch, t.Config.Accumulate)
	if err != nil {
		return t.placed(err, step+1)
	}
	t.state.DataHash = chainHash(t.state.DataHash, batch)
	if was, ok := recorded[step+1]; !ok || was != result.loss {
		return fmt.Errorf("verify: step %d gave loss %v, the run recorded %v", step+1, result.loss, was)
	}
	t.progress("replay", int64(step+1), int64(t.steps))
	return nil
}

func (t *trainer) compareHashes(from int, want state) error {
	weights, opt := t.savedVariables()
	weightHash, err := hashVariables(weights)
	if err != nil {
		return err
	}
	optHash, err := hashVariables(opt)
	if err != nil {
		return err
	}
	var differ []string
	for what, pair := range map[string][2]string{
		"weights": {weightHash, want.Weights}, "optimizer state": {optHash, want.Optimizer}, "data order": {t.state.DataHash, want.DataHash},
	} {
		if pair[0] != pair[1] {
			differ = append(differ, what)
		}
	}
	if len(differ) > 0 {
		slices.Sort(differ)
		return fmt.Errorf("verify: replaying steps %d to %d of %s gave other %s", from+1, want.Step, t.Config.Out, strings.Join(differ, ", "))
	}
	t.note(false, "replayed steps %d to %d: the same losses, weights (%.12s…), optimizer state (%.12s…) and data order (%.12s…)",
		from+1, want.Step, weightHash, optHash, t.state.DataHash)
	return nil
}
