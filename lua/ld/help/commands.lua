-- What the prompt knows besides Lua, as ? shows it: {names, what they do}, the form first.
return {
  {{'?', '??', '.help'}, '? name', 'the entry of a name: a function, a method, a class, a variable'},
  {{}, '??word', 'every entry that has the word, or all of several words'},
  {{'who'}, 'who', 'the tensors there are: shape, dtype, device, bytes, and the line that made them'},
  {{'.time'}, '.time statement', 'runs it and tells how long it took'},
  {{'.profile'}, '.profile statement', 'runs it and lists the time of each operation, forward and backward'},
  {{'.load'}, '.load file', 'runs a file as if it had been typed'},
  {{'.save'}, '.save file', 'writes the statements of this session that ran into a file'},
  {{'exit', 'quit'}, 'exit', 'ends the prompt, as quit and Ctrl-D do'},
}
