package run

import (
	"fmt"
	"time"

	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/optimizer"
)

// Rates that the time estimate assumes: products and element by element operations of the Go backend on a 2-core AVX-512
// machine (bench/results/finetune.md). The first steps of a run replace the estimate.
const (
	flopsPerSecond       = 150e9
	flopsPerSecondScalar = 8e9
	secondsPerElement    = 8e-9
	forwardShare         = 1.0 / 3 // of a forward and backward pass
)

// buildPlan describes the prepared run.
func (s *Session) buildPlan() error {
	p := &s.Plan
	p.Model, p.Backend = s.Config.Model, backend.Name(s.Config.Backend)
	if s.Config.Lab != nil {
		p.Model = fmt.Sprintf("lab transformer, %d layers of width %d, from scratch", s.Config.Lab.Layers, s.Config.Lab.Hidden)
	}
	p.Tokenizer = fmt.Sprintf("%d tokens", s.tokenizer.VocabSize())
	p.TokensPerStep = s.Config.Batch * s.Config.Length
	p.Parameters = s.decoder.Size()
	if s.base == nil && s.adapter != nil { // the pairs are the weights
		for _, layer := range s.adapted() {
			p.Parameters -= int64(layer.FanOut) * int64(layer.FanIn)
		}
		p.Parameters += s.adapter.Parameters()
	}
	for _, layer := range s.adapted() {
		p.Targets = append(p.Targets, layer.Name)
	}
	if err := s.planRoutes(); err != nil {
		return err
	}
	p.Data = s.corpus.Describe()
	preview, err := s.corpus.Train().Preview()
	if err != nil {
		return err
	}
	for _, segment := range preview.Segments {
		p.Preview = append(p.Preview, PreviewSegment{Text: segment.Text, Trained: segment.Trained})
	}
	if _, _, err := s.samplePrompt(); err != nil && s.Config.SampleTokens > 0 {
		return err
	}
	s.planCost()
	s.planNotes()
	return nil
}

// planNotes says what the settings imply and a reader may not expect.
func (s *Session) planNotes() {
	c := s.Config
	note := func(format string, args ...any) { s.Plan.Notes = append(s.Plan.Notes, fmt.Sprintf(format, args...)) }
	if split := s.corpus.Validation(); split == nil || split.Rows() == 0 {
		note("no validation data: the weights of the last step are exported, and --patience has nothing to go by")
	} else if c.Export == "best" {
		note("evaluated every %d steps; the weights of the lowest validation loss are exported (--export last takes the last ones)", c.EvalEvery)
	}
	if c.Manifold.On() {
		note("manifold %s: its weights begin at the nearest matrix of the set and stay in it", c.Manifold)
	}
	s.planPairs(note)
	s.planProtected(note)
	if note := optimizer.ClipNote(s.settings); note != "" {
		s.Plan.Notes = append(s.Plan.Notes, note)
	}
}

// planRoutes groups the trained tensors by the rule that updates them.
func (s *Session) planRoutes() error {
	routes, err := s.optimizer.Routes(s.store)
	if err != nil {
		return err
	}
	index := map[string]int{}
	for _, r := range routes {
		at, seen := index[r.Rule]
		if !seen {
			at = len(s.Plan.Routes)
			index[r.Rule] = at
			s.Plan.Routes = append(s.Plan.Routes, RouteLine{Rule: r.Rule, LearningRate: r.LearningRate})
		}
		line := &s.Plan.Routes[at]
		line.Tensors++
		size := elements(r.Shape)
		line.Parameters += size
		line.StateBytes += r.StateBytes
		if len(line.Examples) < 3 {
			line.Examples = append(line.Examples, layerName(r.Variable))
		}
		s.Plan.Trainable += size
	}
	return nil
}

func elements(shape []int) int64 {
	size := int64(1)
	for _, dim := range shape {
		size *= int64(dim)
	}
	return size
}

// planCost estimates memory and time; the plan says that they are estimates.
func (s *Session) planCost() {
	rank := 0
	if s.adapter != nil {
		rank = s.Config.Rank
		if s.Config.Lab != nil {
			rank = s.Config.Lab.PairRank
		}
	}
	cost := model.Estimate(s.decoder, model.Workload{
		Rows: s.rowsPerCall(), Length: s.Config.Length, Rank: rank, Scratch: s.Config.Lab != nil, Checkpoint: s.Config.ActivationCheckpointing,
	})
	s.Plan.Memory = cost.Bytes
	rate := flopsPerSecond
	if backend.Slow(s.Config.Backend) {
		rate = flopsPerSecondScalar
	}
	calls := float64(s.Config.Accumulate)*float64(s.steps) + forwardShare*float64(s.evaluationCalls())
	s.Plan.Time = time.Duration(calls * (cost.Flops/rate + cost.Elements*secondsPerElement) * float64(time.Second))
}

// evaluationCalls is the number of batches that all evaluations of the run look at.
func (s *Session) evaluationCalls() int {
	split := s.corpus.Validation()
	if split == nil {
		return 0
	}
	each := split.Batches(s.rowsPerCall())
	if most := s.evaluationLimit(); most > 0 {
		each = min(each, most)
	}
	return each * (1 + (s.steps+s.Config.EvalEvery-1)/s.Config.EvalEvery)
}

// evaluationLimit is the most batches of the micro-batch's shape that an evaluation looks at; 0 is all.
func (s *Session) evaluationLimit() int { return s.Config.EvalBatches * s.Config.Accumulate }

// rowsPerCall is the number of rows of a micro-batch; evaluation uses the same shape so that it needs no more memory.
func (s *Session) rowsPerCall() int { return s.Config.Batch / s.Config.Accumulate }
