update question set text = '', answer = null, closed = true where pid = $1
