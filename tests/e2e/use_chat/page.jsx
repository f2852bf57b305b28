// A page with useChat, as an app has one. What it has is in the page, and its functions are window.chat for the tests.
import { useChat } from '@ai-sdk/react'
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from 'ai'
import { createRoot } from 'react-dom/client'

const { api, token, model, id } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)))
const headers = { Authorization: `Bearer ${token}` }
const tools = [{ type: 'function', name: 'get_weather', parameters: { type: 'object', properties: {} } }]
// sends the last message, and the one that says where it belongs
const slim = location.hash.includes('slim') && {
  prepareSendMessagesRequest: ({ id, messages, trigger, messageId, body }) =>
    ({ body: { ...body, id, trigger, messageId, messages: messages.slice(-2) } }),
}

function Part({ part }) {
  if (part.type === 'text') return <p>{part.text}</p>
  if (part.type === 'reasoning') return <em>{part.text}</em>
  if (part.type === 'file') return <img crossOrigin="anonymous" src={part.url} alt={part.filename} />
  if (part.type === 'source-url') return <a href={part.url}>{part.title}</a>
  if (part.type === 'dynamic-tool') return <code>{part.toolName}: {part.state}</code>
  return null
}

function Chat({ initial }) {
  const chat = useChat({
    id,
    messages: initial,
    resume: true,
    transport: new DefaultChatTransport({ api, headers, body: { model, tools }, ...slim }),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    async onToolCall({ toolCall }) {
      if (location.hash.includes('by-hand')) return
      const { toolCallId, toolName: tool, input } = toolCall
      if (input.city === 'Atlantis') {
        return void addOutput({ tool, toolCallId, state: 'output-error', errorText: 'It has sunk.' })
      }
      addOutput({ tool, toolCallId, output: { celsius: 28, city: input.city } })
    },
  })
  const addOutput = chat.addToolOutput ?? chat.addToolResult
  const stop = async () => {
    await fetch(`${api}/${encodeURIComponent(id)}/stop`, { method: 'POST', headers })
  }
  window.chat = { ...chat, addOutput, stopThere: stop }
  return (
    <main data-status={chat.status}>
      {chat.messages.map((message) => (
        <article key={message.id} id={message.id} className={message.role}>
          {message.parts.map((part, index) => <Part key={index} part={part} />)}
        </article>
      ))}
      {chat.error && <strong role="alert">{chat.error.message}</strong>}
    </main>
  )
}

const answer = await fetch(`${api}/${encodeURIComponent(id)}`, { headers })
const initial = answer.ok ? (await answer.json()).messages : []
createRoot(document.getElementById('root')).render(<Chat initial={initial} />)
