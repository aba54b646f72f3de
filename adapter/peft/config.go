package peft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// config is the part of adapter_config.json that changes what an adapter computes. The other fields of PEFT's file
// (dropout, initialisation of training, runtime) do not, and are not kept.
type config struct {
	PeftType          string          `json:"peft_type"`
	Rank              int             `json:"r"`
	Alpha             float64         `json:"lora_alpha"`
	RSLoRA            bool            `json:"use_rslora"`
	RankPattern       patterns        `json:"rank_pattern"`
	AlphaPattern      patterns        `json:"alpha_pattern"`
	FanInFanOut       bool            `json:"fan_in_fan_out"`
	Bias              string          `json:"bias"`
	Base              *string         `json:"base_model_name_or_path"`
	Targets           names           `json:"target_modules"`
	Exclude           names           `json:"exclude_modules"`
	LayersToTransform json.RawMessage `json:"layers_to_transform"`
	InitWeights       json.RawMessage `json:"init_lora_weights"`

	targets, exclude *regexp.Regexp // where the value is one string: a regular expression
	unknownTargets   bool           // target_modules uses what Go's regular expressions do not have
}

// names is a field that PEFT lets be a list of names or one string; null is neither.
type names struct {
	list   []string
	single string
}

// UnmarshalJSON reads a string, a list of strings or null.
func (n *names) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &n.single); err == nil {
		return nil
	}
	if err := json.Unmarshal(data, &n.list); err != nil {
		return fmt.Errorf("want a string or a list of strings, got %s", clip(data))
	}
	return nil
}

// patterns is rank_pattern or alpha_pattern in the file's order, which decides: PEFT takes the first key that matches,
// as a regular expression, at the end of a module's name.
type patterns []pattern

type pattern struct {
	key   string
	value float64
	re    *regexp.Regexp
}

// UnmarshalJSON reads an object of numbers, or null, keeping the order of its keys; of a key used twice the last value
// counts at the first place, as in Python.
func (p *patterns) UnmarshalJSON(data []byte) error {
	var values map[string]float64
	if err := json.Unmarshal(data, &values); err != nil {
		return fmt.Errorf("want an object of numbers, got %s", clip(data))
	}
	*p = nil
	decoder := json.NewDecoder(bytes.NewReader(data))
	for len(*p) < len(values) {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		key, isKey := token.(string) // the values are numbers
		if isKey && !slices.ContainsFunc(*p, func(q pattern) bool { return q.key == key }) {
			*p = append(*p, pattern{key: key, value: values[key]})
		}
	}
	return nil
}

// compile prepares the expressions and returns an error naming a key that cannot be one, or a value that is not usable.
func (p patterns) compile(field string, usable func(float64) bool, want string) (err error) {
	for i, entry := range p {
		if !usable(entry.value) {
			return fmt.Errorf("%s gives %q the value %g, want %s", field, entry.key, entry.value, want)
		}
		if p[i].re, err = regexp.Compile(`^(?:.*\.)?(?:` + entry.key + `)$`); err != nil {
			return fmt.Errorf("%s has the key %q, which is not a regular expression this program can use: %w", field, entry.key, err)
		}
	}
	return nil
}

// find returns the value of the first key that matches the layer's name, or otherwise.
func (p patterns) find(layer string, otherwise float64) float64 {
	for _, entry := range p {
		if entry.re.MatchString(layer) {
			return entry.value
		}
	}
	return otherwise
}

// refused are the fields that change what an adapter computes in ways this package does not have.
var refused = []struct{ field, what string }{
	{"use_dora", "DoRA"},
	{"modules_to_save", "fully trained modules (modules_to_save)"},
	{"lora_bias", "biases in lora_B (lora_bias)"},
	{"layer_replication", "replicated layers (layer_replication)"},
	{"trainable_token_indices", "trained tokens (trainable_token_indices)"},
	{"target_parameters", "adapted parameters outside modules (target_parameters)"},
	{"alora_invocation_tokens", "activated LoRA (alora_invocation_tokens)"},
	{"use_qalora", "QA-LoRA"},
	{"arrow_config", "Arrow routing (arrow_config)"},
	{"use_bdlora", "block-diagonal LoRA (use_bdlora)"},
	{"kasa_config", "KaSA (kasa_config)"},
	{"monteclora_config", "MonteCLoRA (monteclora_config)"},
}

// parseConfig reads adapter_config.json. Errors are one line and name the field.
func parseConfig(data []byte) (*config, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	if fields == nil {
		return nil, fmt.Errorf("want a JSON object, got %s", clip(data))
	}
	c := &config{Rank: 8, Alpha: 8, Bias: "none"} // PEFT's defaults for fields left out
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	if c.PeftType != "LORA" {
		return nil, fmt.Errorf("peft_type is %q; only LORA adapters can be read", c.PeftType)
	}
	for _, r := range refused {
		if value, ok := fields[r.field]; ok && !isOff(value) {
			return nil, fmt.Errorf("the adapter uses %s, which is not supported", r.what)
		}
	}
	if c.Bias != "none" {
		return nil, fmt.Errorf("bias is %q: adapters with trained biases are not supported, only \"none\"", c.Bias)
	}
	if err := c.checkInit(); err != nil {
		return nil, err
	}
	return c, c.compile()
}

// isOff reports whether a field has the value that switches it off: null, false, or an empty list, object or string.
func isOff(value json.RawMessage) bool {
	switch string(bytes.Join(bytes.Fields(value), nil)) {
	case "null", "false", "[]", "{}", `""`:
		return true
	}
	return false
}

// checkInit refuses the initialisations for which PEFT changes the base's weights when it loads the adapter.
func (c *config) checkInit() error {
	var init string
	if json.Unmarshal(c.InitWeights, &init) != nil {
		return nil // true, false or absent
	}
	lower := strings.ToLower(init)
	for _, moving := range []string{"pissa", "olora", "corda", "loftq", "lora_ga"} {
		if strings.HasPrefix(lower, moving) {
			return fmt.Errorf("init_lora_weights is %q: the adapter is relative to a changed base; convert it with PEFT's path_initial_model_for_weight_conversion first", init)
		}
	}
	return nil
}

func (c *config) compile() error {
	if !wholeRank(float64(c.Rank)) {
		return fmt.Errorf("r is %d, want a number from 1 to %d", c.Rank, maxRank)
	}
	if !usableAlpha(c.Alpha) {
		return fmt.Errorf("lora_alpha is %g, want a positive number", c.Alpha)
	}
	err := c.RankPattern.compile("rank_pattern", wholeRank, "a whole number of at least 1")
	if err != nil {
		return err
	}
	if err = c.AlphaPattern.compile("alpha_pattern", usableAlpha, "a positive number"); err != nil {
		return err
	}
	if text := c.Targets.single; text != "" && text != "all-linear" {
		if c.targets, err = whole(text); err != nil {
			c.unknownTargets = true // which layers have tensors says it too; only the check for missing ones is lost
		}
	}
	if text := c.Exclude.single; text != "" {
		if c.exclude, err = whole(text); err != nil {
			c.unknownTargets = true
		}
	}
	return nil
}

func whole(expression string) (*regexp.Regexp, error) {
	return regexp.Compile(`^(?:` + expression + `)$`)
}

// maxRank and the range of alpha keep every scale a normal float32.
const maxRank = 1 << 24

func wholeRank(x float64) bool { return x >= 1 && x <= maxRank && x == math.Trunc(x) }

func usableAlpha(x float64) bool { return x >= 1e-20 && x <= 1e20 }

// rank returns r of a layer.
func (c *config) rank(layer string) int { return int(c.RankPattern.find(layer, float64(c.Rank))) }

// scale returns s of a layer: alpha/r, or alpha/sqrt(r) with rsLoRA.
func (c *config) scale(layer string) float64 {
	alpha, rank := c.AlphaPattern.find(layer, c.Alpha), float64(c.rank(layer))
	if c.RSLoRA {
		return alpha / math.Sqrt(rank)
	}
	return alpha / rank
}

// matches reports whether target_modules asks for the layer, false where that cannot be told.
func (c *config) matches(layer string) bool {
	if c.unknownTargets || !isOff(orNull(c.LayersToTransform)) || c.matchesNames(c.Exclude, c.exclude, layer) {
		return false
	}
	return c.Targets.single == "all-linear" || c.matchesNames(c.Targets, c.targets, layer)
}

func (c *config) matchesNames(n names, re *regexp.Regexp, layer string) bool {
	if re != nil {
		return re.MatchString(layer)
	}
	return slices.ContainsFunc(n.list, func(name string) bool {
		return layer == name || strings.HasSuffix(layer, "."+name)
	})
}

func orNull(value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		return json.RawMessage("null")
	}
	return value
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// clip shortens JSON for a message.
func clip(data []byte) string {
	text := strings.Join(strings.Fields(string(data)), " ")
	if len(text) > 40 {
		text = text[:40] + "…"
	}
	return text
}
