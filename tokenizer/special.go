package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
)

// specials are the ids with a meaning, -1 where there is none; stops are all ids that end a generation.
type specials struct {
	bos, eos, pad, unk int
	stops              []int
}

// specialFiles is what tokenizer_config.json, special_tokens_map.json, config.json and generation_config.json say.
type specialFiles struct {
	content        map[string]string // bos_token -> "<s>"; tokenizer_config.json before special_tokens_map.json
	ids            map[string][]int  // bos_token_id -> [1]; generation_config.json before config.json
	stops          []int
	addBOS, addEOS *bool
	added          []addedToken
}

// named are the special tokens that templates and callers use.
var named = []string{"bos_token", "eos_token", "pad_token", "unk_token"}

func readSpecials(files map[string][]byte) (*specialFiles, error) {
	s := &specialFiles{content: map[string]string{}, ids: map[string][]int{}}
	for _, name := range []string{tokenizerConf, specialMap} {
		fields, err := object(files, name)
		if err != nil {
			return nil, err
		}
		for _, key := range named {
			text, ok, err := tokenText(fields[key])
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", name, key, err)
			}
			if _, have := s.content[key]; ok && !have {
				s.content[key] = text
			}
		}
		if name == tokenizerConf {
			if err := s.readFlags(fields); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for _, name := range []string{generateConf, modelConf} {
		fields, err := object(files, name)
		if err != nil {
			return nil, err
		}
		for _, key := range []string{"bos_token_id", "eos_token_id", "pad_token_id"} {
			ids, err := idList(fields[key])
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", name, key, err)
			}
			if key == "eos_token_id" {
				s.stops = append(s.stops, ids...)
			}
			if len(s.ids[key]) == 0 {
				s.ids[key] = ids
			}
		}
	}
	return s, nil
}

// readFlags reads tokenizer_config.json's own fields.
func (s *specialFiles) readFlags(fields map[string]json.RawMessage) error {
	for key, to := range map[string]**bool{"add_bos_token": &s.addBOS, "add_eos_token": &s.addEOS} {
		if raw := fields[key]; !absent(raw) {
			if err := json.Unmarshal(raw, to); err != nil {
				return fmt.Errorf("%s: want true or false", key)
			}
		}
	}
	if raw := fields["added_tokens_decoder"]; !absent(raw) {
		var byID map[string]addedToken
		if err := json.Unmarshal(raw, &byID); err != nil {
			return fmt.Errorf("added_tokens_decoder: %w", err)
		}
		for key, token := range byID {
			id, err := strconv.Atoi(key)
			if err != nil {
				return fmt.Errorf("added_tokens_decoder: key %q is not an id", key)
			}
			token.ID = id
			s.added = append(s.added, token)
		}
		sort.Slice(s.added, func(i, j int) bool { return s.added[i].ID < s.added[j].ID })
	}
	return nil
}

// missing returns the added tokens that only tokenizer_config.json has.
func (s *specialFiles) missing(have []addedToken) []addedToken {
	contents := map[string]bool{}
	for _, a := range have {
		contents[a.Content] = true
	}
	var out []addedToken
	for _, a := range s.added {
		if !contents[a.Content] {
			out = append(out, a)
		}
	}
	return out
}

// object reads one JSON file into its fields; a missing file has none.
func object(files map[string][]byte, name string) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	content, ok := files[name]
	if !ok {
		return nil, nil
	}
	if err := json.Unmarshal(content, &fields); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return fields, nil
}

// tokenText reads "<s>" or {"content": "<s>", ...}.
func tokenText(raw json.RawMessage) (string, bool, error) {
	if absent(raw) {
		return "", false, nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, text != "", nil
	}
	var token addedToken
	if err := json.Unmarshal(raw, &token); err != nil {
		return "", false, fmt.Errorf("want a string or an object with \"content\"")
	}
	return token.Content, token.Content != "", nil
}

// idList reads 2 or [1, 2].
func idList(raw json.RawMessage) ([]int, error) {
	if absent(raw) {
		return nil, nil
	}
	var one int
	if json.Unmarshal(raw, &one) == nil {
		return []int{one}, nil
	}
	var many []int
	if err := json.Unmarshal(raw, &many); err != nil {
		return nil, fmt.Errorf("want an id or a list of ids")
	}
	return many, nil
}

// resolve turns contents into ids. add_bos_token and add_eos_token of tokenizer_config.json count only where tokenizer.json has no
// post-processor, as in transformers (the golden style "mistral" has both and they disagree).
func (t *huggingFace) resolve(s *specialFiles) error {
	find := func(key string) int {
		if content, ok := s.content[key]; ok {
			if id := t.id(content); id >= 0 {
				return id
			}
		}
		if ids := s.ids[key+"_id"]; len(ids) > 0 && t.has(ids[0]) {
			return ids[0]
		}
		return -1
	}
	t.special = specials{bos: find("bos_token"), eos: find("eos_token"), pad: find("pad_token"), unk: find("unk_token")}
	if t.special.eos >= 0 {
		t.special.stops = append(t.special.stops, t.special.eos)
	}
	for _, id := range s.stops {
		if t.has(id) && !slices.Contains(t.special.stops, id) {
			t.special.stops = append(t.special.stops, id)
		}
	}
	if !t.postProcessed {
		t.before, t.after = nil, nil
		if isTrue(s.addBOS, false) && t.special.bos >= 0 {
			t.before = []int32{int32(t.special.bos)}
		}
		if isTrue(s.addEOS, false) && t.special.eos >= 0 {
			t.after = []int32{int32(t.special.eos)}
		}
	}
	for _, id := range slices.Concat(t.before, t.after) {
		if !t.has(int(id)) {
			return fmt.Errorf("%s: post_processor: id %d is outside the vocabulary", tokenizerJSON, id)
		}
	}
	return nil
}

func (t *huggingFace) has(id int) bool { return id >= 0 && id < len(t.known) && t.known[id] }

// id finds a token's id, -1 where there is none; added tokens come before the model's vocabulary.
func (t *huggingFace) id(content string) int {
	for _, set := range []*addedSet{t.raw, t.spacedSet} {
		if content == "" {
			return -1
		}
		for _, a := range set.byFirst[content[0]] {
			if a.Content == content {
				return a.ID
			}
		}
	}
	if id, ok := t.model.vocab()[content]; ok {
		return int(id)
	}
	return -1
}

// Special returns the template variables bos_token, eos_token, pad_token and unk_token that t defines, for ParseChatTemplate.
func Special(t Tokenizer) map[string]string {
	out := map[string]string{}
	add := func(key string, get func() (int, bool)) {
		if id, ok := get(); ok {
			out[key] = t.Token(id)
		}
	}
	add("bos_token", t.BOS)
	add("eos_token", t.EOS)
	add("pad_token", t.Pad)
	if h, ok := t.(*huggingFace); ok && h.special.unk >= 0 {
		out["unk_token"] = h.Token(h.special.unk)
	}
	return out
}

// Stops returns every id that ends a generation: EOS and the lists in generation_config.json and config.json (Llama 3's instruct
// models end a turn with another token than a text).
func Stops(t Tokenizer) []int {
	if h, ok := t.(*huggingFace); ok {
		return slices.Clone(h.special.stops)
	}
	if id, ok := t.EOS(); ok {
		return []int{id}
	}
	return nil
}
