package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/polargo/polar/tokenizer"
)

// form is which keys of a row are used.
type form int

const (
	formText form = iota + 1
	formPair
	formChat
)

// row is one example before it is tokenised.
type row struct {
	form               form
	text               string
	prompt, completion string
	messages           []tokenizer.Message
	also               string // another form that the row holds too, unused
}

// wantKeys ends every error about keys.
const wantKeys = "want text, or prompt and completion, or messages"

// parseRow reads one JSON object. Errors name the column of malformed JSON, and keys found and wanted otherwise.
func parseRow(line []byte) (row, error) {
	if at := invalidAt(line); at >= 0 {
		return row{}, fmt.Errorf("column %d: byte 0x%02x is not UTF-8", utf8.RuneCount(line[:at])+1, line[at])
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at := min(max(syntax.Offset, 1), int64(len(line)))
			return row{}, fmt.Errorf("column %d: malformed JSON: %w", utf8.RuneCount(line[:at]), err)
		}
		return row{}, fmt.Errorf("the line is %s; %s in one JSON object", kindOf(line), wantKeys)
	}
	if fields == nil {
		return row{}, fmt.Errorf("the line is null; %s in one JSON object", wantKeys)
	}
	return rowOf(fields)
}

// rowOf picks the form: messages before prompt and completion before text.
func rowOf(fields map[string]json.RawMessage) (r row, err error) {
	has := func(key string) bool { raw, ok := fields[key]; return ok && string(raw) != "null" }
	var found []string
	read := func(key string, to *string) {
		if err == nil {
			*to, err = stringOf(key, fields[key])
		}
	}
	if has("messages") || has("conversations") {
		found = append(found, "messages")
		key := "messages"
		if !has(key) {
			key = "conversations"
		}
		r.form = formChat
		r.messages, err = messagesOf(key, fields[key])
	}
	if has("prompt") && has("completion") {
		if found = append(found, "prompt and completion"); r.form == 0 {
			r.form = formPair
			read("prompt", &r.prompt)
			read("completion", &r.completion)
		}
	}
	if has("text") {
		if found = append(found, "text"); r.form == 0 {
			r.form = formText
			read("text", &r.text)
		}
	}
	if r.form == 0 {
		return row{}, missingKeys(fields)
	}
	if len(found) > 1 {
		r.also = fmt.Sprintf("%s is used, %s is not", found[0], strings.Join(found[1:], " and "))
	}
	return r, err
}

func missingKeys(fields map[string]json.RawMessage) error {
	keys := slices.Sorted(maps.Keys(fields))
	for i, key := range keys {
		if keys[i] = shortKey(key); string(fields[key]) == "null" {
			keys[i] += " (null)"
		}
	}
	found := "no keys"
	if len(keys) > 0 {
		found = "keys " + shorten(keys, 8)
	}
	return fmt.Errorf("found %s; %s", found, wantKeys)
}

func shortKey(key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == ',' }) || len(key) > 40 {
		return fmt.Sprintf("%.40q", key)
	}
	return key
}

func stringOf(key string, raw json.RawMessage) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' {
		return "", fmt.Errorf("%s is %s, want a string", key, kindOf(raw))
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return s, nil
}

// messagesOf reads a list of {role, content}; also {from, value} with from human or gpt, as in ShareGPT's files.
func messagesOf(key string, raw json.RawMessage) ([]tokenizer.Message, error) {
	var items []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' {
		return nil, fmt.Errorf("%s is %s, want an array of {\"role\": ..., \"content\": ...}", key, kindOf(raw))
	}
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	messages := make([]tokenizer.Message, len(items))
	for i, item := range items {
		name := fmt.Sprintf("%s[%d]", key, i)
		var fields map[string]json.RawMessage
		if len(item) == 0 || item[0] != '{' || json.Unmarshal(item, &fields) != nil {
			return nil, fmt.Errorf("%s is %s, want {\"role\": ..., \"content\": ...}", name, kindOf(item))
		}
		roleKey, contentKey := "role", "content"
		if _, ok := fields["role"]; !ok && fields["from"] != nil {
			roleKey, contentKey = "from", "value"
		}
		var err error
		if messages[i].Role, err = stringOf(name+"."+roleKey, fields[roleKey]); err != nil {
			return nil, err
		}
		if messages[i].Content, err = stringOf(name+"."+contentKey, fields[contentKey]); err != nil {
			return nil, err
		}
		if role, ok := map[string]string{"human": "user", "gpt": "assistant"}[messages[i].Role]; ok && roleKey == "from" {
			messages[i].Role = role
		}
	}
	return messages, nil
}

// kindOf names the kind of a JSON value by its first character.
func kindOf(raw []byte) string {
	for _, b := range raw {
		switch b {
		case ' ', '\t', '\r', '\n':
			continue
		case '{':
			return "an object"
		case '[':
			return "an array"
		case '"':
			return "a string"
		case 't', 'f':
			return "a boolean"
		case 'n':
			return "null"
		}
		return "a number"
	}
	return "missing"
}
