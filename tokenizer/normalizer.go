package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// normalizer rewrites a stretch of text between added tokens.
type normalizer func(text string) (string, error)

type normalizerJSON struct {
	Type               string            `json:"type"`
	Normalizers        []json.RawMessage `json:"normalizers"`
	Prepend            string            `json:"prepend"`
	Pattern            *pattern          `json:"pattern"`
	Content            string            `json:"content"`
	StripLeft          bool              `json:"strip_left"`
	StripRight         bool              `json:"strip_right"`
	CleanText          bool              `json:"clean_text"`
	HandleChineseChars bool              `json:"handle_chinese_chars"`
	StripAccents       *bool             `json:"strip_accents"`
	Lowercase          bool              `json:"lowercase"`
}

// newNormalizer builds the "normalizer" component; nil means none.
func newNormalizer(raw json.RawMessage, depth int) (normalizer, error) {
	if absent(raw) {
		return nil, nil
	}
	var j normalizerJSON
	if err := decodeInto("normalizer", raw, &j); err != nil {
		return nil, err
	}
	switch j.Type {
	case "Sequence":
		return normalizerSequence(j.Normalizers, depth)
	case "NFC", "NFD", "NFKC", "NFKD":
		form := map[string]norm.Form{"NFC": norm.NFC, "NFD": norm.NFD, "NFKC": norm.NFKC, "NFKD": norm.NFKD}[j.Type]
		return plain(form.String), nil
	case "Lowercase":
		return plain(strings.ToLower), nil
	case "StripAccents":
		return plain(stripMarks), nil
	case "ByteLevel":
		return plain(toByteLevel), nil
	case "Strip":
		return plain(func(s string) string { return stripSides(s, j.StripLeft, j.StripRight) }), nil
	case "Prepend":
		return plain(func(s string) string {
			if s == "" {
				return s
			}
			return j.Prepend + s
		}), nil
	case "Replace":
		return newReplace("normalizer Replace", j.Pattern, j.Content)
	case "BertNormalizer":
		return plain(j.bert), nil
	}
	return nil, fmt.Errorf("normalizer type %q is not supported; known: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, "+
		"Prepend, Replace, ByteLevel, BertNormalizer", j.Type)
}

func plain(f func(string) string) normalizer {
	return func(s string) (string, error) { return f(s), nil }
}

func normalizerSequence(parts []json.RawMessage, depth int) (normalizer, error) {
	if depth >= maxNesting {
		return nil, fmt.Errorf("normalizer: Sequence nested deeper than %d", maxNesting)
	}
	var steps []normalizer
	for _, raw := range parts {
		step, err := newNormalizer(raw, depth+1)
		if err != nil {
			return nil, err
		}
		if step != nil {
			steps = append(steps, step)
		}
	}
	return func(s string) (string, error) {
		var err error
		for _, step := range steps {
			if s, err = step(s); err != nil {
				return "", err
			}
		}
		return s, nil
	}, nil
}

// newReplace replaces every match of p by content.
func newReplace(what string, p *pattern, content string) (normalizer, error) {
	if p != nil && p.String != nil && *p.String != "" {
		old := *p.String
		return plain(func(s string) string { return strings.ReplaceAll(s, old, content) }), nil
	}
	m, err := newMatcher(what, p)
	if err != nil {
		return nil, err
	}
	return func(s string) (string, error) {
		cuts, err := m(s)
		if err != nil {
			return "", err
		}
		var b strings.Builder
		for _, c := range cuts {
			if c.match {
				b.WriteString(content)
			} else {
				b.WriteString(s[c.start:c.end])
			}
		}
		return b.String(), nil
	}, nil
}

func stripSides(s string, left, right bool) string {
	if left {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
	}
	if right {
		s = strings.TrimRightFunc(s, unicode.IsSpace)
	}
	return s
}

func stripMarks(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, s)
}

// bert cleans control characters, isolates Chinese characters, strips accents and lowercases, as each flag asks.
func (j *normalizerJSON) bert(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case j.CleanText && (r == 0 || r == 0xFFFD || isBertControl(r)):
		case j.CleanText && unicode.IsSpace(r):
			b.WriteByte(' ')
		case j.HandleChineseChars && isChinese(r):
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	s = b.String()
	if (j.StripAccents == nil && j.Lowercase) || (j.StripAccents != nil && *j.StripAccents) {
		s = stripMarks(norm.NFD.String(s))
	}
	if j.Lowercase {
		s = strings.ToLower(s)
	}
	return s
}

func isBertControl(r rune) bool {
	return r != '\t' && r != '\n' && r != '\r' && unicode.Is(unicode.C, r)
}

// isChinese is the CJK ideograph blocks of the BERT reference.
func isChinese(r rune) bool {
	switch {
	case r >= 0x4E00 && r <= 0x9FFF, r >= 0x3400 && r <= 0x4DBF, r >= 0x20000 && r <= 0x2A6DF, r >= 0x2A700 && r <= 0x2B73F,
		r >= 0x2B740 && r <= 0x2B81F, r >= 0x2B920 && r <= 0x2CEAF, r >= 0xF900 && r <= 0xFAFF, r >= 0x2F800 && r <= 0x2FA1F:
		return true
	}
	return false
}
