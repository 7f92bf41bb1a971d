"""The practice LM: an OpenAI-compatible server for tests, demos and load, without internet or keys.

It is not a language model. It answers by nearest neighbor over the demos and the rules that stand
in the prompt, and it knows nothing else, so a better prompt truly gets better answers and an
optimizer shows a true gain. It reads the prompts of DSPy's chat and JSON adapters; to any other
prompt it says what it is. Never judge a program by its answers: put a real endpoint in its place.

    similarity   words, bags of words, cosine, repeatable noise
    schema       the JSON schemas of output fields: does a value fit, how is it read and written
    prompt       messages -> the task: inputs, wanted outputs with types, demos, instruction
    shapes       e-mail addresses, amounts, dates, names and other shapes in a text
    guess        a value of the right type when there is no demo
    analogy      a value found in the text as the demos found theirs
    model        the answer to a task
    agent        the next step of a ReAct program
    proposer     instructions for optimizers, learned from the examples in their prompt
    reply        the answer as the adapter wants it written
    faults       what goes wrong on purpose, and how often
    counters     what `/stats` tells
    wire         OpenAI's bodies and events
    desk         a request, its answer and the plan of faults, all but the network
    calls        the completions endpoint
    server       the other endpoints, and the process
"""
