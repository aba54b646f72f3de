package run

import "time"

// Event is something a run tells while it works. The kinds are the exported types of this file.
type Event interface{ isEvent() }

// Sink receives the events of a run, one at a time, on the run's goroutine.
type Sink func(Event)

// Progress tells how far a preparation has come (reading data, downloading, factorising).
type Progress struct {
	What        string
	Done, Total int64 // bytes, layers or batches, as What says; Total 0 when not known
}

// Note is one line for the user; Warning marks lines that deserve attention.
type Note struct {
	Text    string
	Warning bool
}

// StepDone is sent after every optimizer step and is a line of metrics.jsonl.
type StepDone struct {
	Step            int           `json:"step"` // steps done, from 1
	Steps           int           `json:"steps"`
	Loss            float64       `json:"loss"` // mean over the step's trained tokens, natural logarithm
	LearningRate    float64       `json:"learning_rate"`
	GradientNorm    float64       `json:"gradient_norm"`
	Tokens          int64         `json:"tokens"` // trained tokens so far
	TokensPerSecond float64       `json:"tokens_per_second"`
	Seconds         float64       `json:"seconds"` // of this step
	Remaining       time.Duration `json:"-"`
}

// EvalDone is sent after an evaluation; Step 0 is the start.
type EvalDone struct {
	Step           int     `json:"step"`
	ValidationLoss float64 `json:"validation_loss"`
	Tokens         int64   `json:"validation_tokens"`
	Best           bool    `json:"best"`
	Seconds        float64 `json:"seconds"`
}

// Sampled is sample text at a step.
type Sampled struct {
	Step   int    `json:"step"`
	Prompt string `json:"prompt"`
	Text   string `json:"text"`
}

// Saved tells of a checkpoint on disk.
type Saved struct {
	Step int
	Path string
	Best bool
}

func (Progress) isEvent() {}
func (Note) isEvent()     {}
func (StepDone) isEvent() {}
func (EvalDone) isEvent() {}
func (Sampled) isEvent()  {}
func (Saved) isEvent()    {}
