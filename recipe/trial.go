package recipe

import (
	"encoding/json"
	"fmt"
	"math"
)

// Trial is one training: a setting, a learning rate and a seed.
type Trial struct {
	// Key names the trial among all of its experiment: letters, digits, dots and dashes, also the name of its file.
	Key  string
	Rate float64
	Seed int64
	// Cost is an estimate of the work in units that are the same for all trials of the experiment. It only serves to
	// foretell the time left.
	Cost float64
}

// Result is what a trial measured.
type Result struct {
	Key string `json:"key"`
	// Values are numbers by name; Series lists of numbers by name, one for each step.
	Values map[string]Number   `json:"values"`
	Series map[string][]Number `json:"series,omitempty"`
	// Seconds is the time that the trial took, without compiling.
	Seconds float64 `json:"seconds"`
}

// Number is a float64 that keeps NaN and infinities in JSON, as the words NaN, +Inf and -Inf. Finite numbers come back
// bit for bit.
type Number float64

// MarshalJSON writes the number, or its word.
func (n Number) MarshalJSON() ([]byte, error) {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return json.Marshal(fmt.Sprint(f))
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *Number) UnmarshalJSON(text []byte) error {
	var word string
	if json.Unmarshal(text, &word) != nil {
		return json.Unmarshal(text, (*float64)(n))
	}
	switch word {
	case "NaN":
		*n = Number(math.NaN())
	case "+Inf":
		*n = Number(math.Inf(1))
	case "-Inf":
		*n = Number(math.Inf(-1))
	default:
		return fmt.Errorf("%q is no number", word)
	}
	return nil
}

// numbers converts a series.
func numbers(values []float64) []Number {
	out := make([]Number, len(values))
	for i, v := range values {
		out[i] = Number(v)
	}
	return out
}

// Results holds the finished trials of an experiment by key.
type Results struct {
	// Seeds are the seeds that were asked for.
	Seeds []int64
	byKey map[string]Result
}

// value returns a number of a trial that the plan has; NaN where the trial did not measure it.
func (r Results) value(key, name string) float64 {
	v, ok := r.byKey[key].Values[name]
	if !ok {
		return math.NaN()
	}
	return float64(v)
}

// values returns a number of the trials of one setting, one for each seed in order; keyOf names the trial of a seed.
func (r Results) values(name string, keyOf func(seed int64) string) []float64 {
	out := make([]float64, len(r.Seeds))
	for i, seed := range r.Seeds {
		out[i] = r.value(keyOf(seed), name)
	}
	return out
}

// series returns a list of a trial, nil where the trial did not measure it.
func (r Results) series(key, name string) []float64 {
	list := r.byKey[key].Series[name]
	if list == nil {
		return nil
	}
	out := make([]float64, len(list))
	for i, v := range list {
		out[i] = float64(v)
	}
	return out
}
