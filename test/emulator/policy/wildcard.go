package policy

// Match reports whether value matches pattern, in which * stands for any run of characters, also none, and ? for one.
// There is no escape, and / is a character like any other: acs:kms:*:*:secret/app/* covers app/prod/db.
func Match(pattern, value string) bool {
	p, v := []rune(pattern), []rune(value)
	star, resume := -1, 0
	i, j := 0, 0
	for j < len(v) {
		switch {
		case i < len(p) && p[i] == '*':
			star, resume = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == v[j]):
			i++
			j++
		case star >= 0:
			// The last star swallows one more character. Earlier stars need no retry: what they matched is
			// already the shortest.
			resume++
			i, j = star+1, resume
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
