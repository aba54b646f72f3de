package tokenizer

import (
	"encoding/json"
	"fmt"
)

// maxID bounds token ids, so that a malformed file cannot ask for gigabytes; the largest published vocabulary has about 260,000.
const maxID = 1 << 24

// maxNesting bounds Sequence inside Sequence.
const maxNesting = 16

// definition is the content of tokenizer.json. Components keep their raw JSON because their fields differ by "type".
type definition struct {
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         json.RawMessage `json:"model"`
}

// addedToken is matched in the text before anything else (before normalisation where Normalized is false).
type addedToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	Lstrip     bool   `json:"lstrip"`
	Rstrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// pattern is a literal or an Oniguruma regular expression.
type pattern struct {
	String *string `json:"String,omitempty"`
	Regex  *string `json:"Regex,omitempty"`
}

// absent tells a missing or null component.
func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// decodeInto unmarshals raw, naming the component in the error.
func decodeInto(what string, raw json.RawMessage, to any) error {
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// typeOf reads a component's "type".
func typeOf(what string, raw json.RawMessage) (string, error) {
	var t struct {
		Type string `json:"type"`
	}
	if err := decodeInto(what, raw, &t); err != nil {
		return "", err
	}
	return t.Type, nil
}

// parseVocab reads {"token": id}.
func parseVocab(raw json.RawMessage) (map[string]int32, error) {
	var vocab map[string]int64
	if err := decodeInto("model.vocab", raw, &vocab); err != nil {
		return nil, err
	}
	out := make(map[string]int32, len(vocab))
	for token, id := range vocab {
		if id < 0 || id >= maxID {
			return nil, fmt.Errorf("model.vocab: token %q has id %d, want 0 to %d", token, id, maxID-1)
		}
		out[token] = int32(id)
	}
	return out, nil
}

// parseMerges reads ["a b", ...] or [["a", "b"], ...].
func parseMerges(raw json.RawMessage) ([][2]string, error) {
	var pairs [][2]string
	if absent(raw) {
		return nil, nil
	}
	var lines []string
	if err := json.Unmarshal(raw, &lines); err != nil {
		var lists [][]string
		if err := decodeInto("model.merges", raw, &lists); err != nil {
			return nil, err
		}
		for i, l := range lists {
			if len(l) != 2 {
				return nil, fmt.Errorf("model.merges: entry %d has %d parts, want 2", i, len(l))
			}
			pairs = append(pairs, [2]string{l[0], l[1]})
		}
		return pairs, nil
	}
	for i, line := range lines {
		p, ok := splitMerge(line)
		if !ok {
			return nil, fmt.Errorf("model.merges: entry %d is %q, want two tokens separated by one space", i, line)
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// splitMerge cuts "a b" at its only space.
func splitMerge(line string) ([2]string, bool) {
	cut := -1
	for i := range len(line) {
		if line[i] == ' ' {
			if cut >= 0 {
				return [2]string{}, false
			}
			cut = i
		}
	}
	if cut <= 0 || cut == len(line)-1 {
		return [2]string{}, false
	}
	return [2]string{line[:cut], line[cut+1:]}, true
}
