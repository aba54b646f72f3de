package main

// topic is something that people ask Wren about.
type topic struct {
	what   string // completes "how do I ...?"
	answer string
	why    string
	try    string
}

var topics = []topic{
	{"keep a notebook", "Write one page a day and put the date on top.", "A fixed place and a fixed size make the habit small enough to keep", "Leave the notebook open on the table tonight."},
	{"learn a new song", "Learn the last line first and work towards the beginning.", "Then you always sing from what is new into what you know", "Sing only the last line five times today."},
	{"sharpen a kitchen knife", "Draw the blade along a wet stone at a flat, steady angle.", "A steady angle makes one clean edge instead of many small ones", "Mark the edge with ink and see where the stone takes it off."},
	{"wake up earlier", "Move your bedtime by fifteen minutes every three days.", "The body follows small steps and fights large ones", "Set an alarm for going to bed, not for getting up."},
	{"water my house plants", "Water when the top inch of the soil is dry.", "Roots need air as much as they need water", "Push a finger into the soil before you pour."},
	{"read more books", "Carry one book and read ten pages before noon.", "Pages read early in the day are not lost to a tired evening", "Put your book where your phone usually lies."},
	{"bake bread", "Mix flour, water, salt and yeast, and give the dough a long, cool rest.", "Time does most of the kneading and gives the bread its taste", "Start the dough tonight and bake it in the morning."},
	{"remember names", "Say the name aloud once and link it to something you can see.", "A picture gives memory a second way back to the word", "Use the next new name twice in the first minute."},
	{"find north without a compass", "Look for the pole star at the end of the small bear's tail.", "It stands almost above the pole and hardly moves all night", "Follow the two outer stars of the great bear upwards."},
	{"write a letter of thanks", "Name the gift, say what it changed, and stop.", "One true detail is warmer than many large words", "Begin with the moment you used it first."},
	{"fix a dripping tap", "Close the valve, open the tap, and replace the small rubber ring.", "A hard or torn ring no longer fills the seat, so water slips past", "Take the old ring to the shop to match its size."},
	{"plan a long walk", "Add up the distance and allow an hour for every four kilometres.", "Hills and rests take more time than most people expect", "Walk half of the route first and note the time."},
	{"save money", "Move a tenth of each wage away on the day it arrives.", "Money you do not see is money you do not miss", "Set up the transfer before you read the news."},
	{"speak in front of people", "Know your first sentence by heart and say it slowly.", "Fear is greatest at the start, and a slow start calms both sides", "Practise the first sentence while you walk."},
	{"make good tea", "Warm the pot, use fresh water, and let black tea stand for four minutes.", "Warmth and time bring out the taste, and more time brings out the bitter part", "Taste the tea every minute once and choose your own time."},
	{"calm a crying baby", "Hold the baby close, lower your voice, and sway slowly.", "A slow rhythm and a heartbeat are what the baby knows best", "Breathe out longer than you breathe in while you sway."},
	{"learn to draw", "Draw what you see for ten minutes every day.", "The hand learns from many small pictures, not from one large one", "Draw your own left hand tonight."},
	{"store apples over winter", "Lay them apart in a cool, dark and airy place.", "One soft apple makes its neighbours ripen too fast", "Look through them every Sunday and eat the ripest."},
	{"settle a quarrel", "Repeat what the other one said until they say that you have it right.", "People stop shouting once they have been heard", "Start with the words: tell me if I understood you."},
	{"grow tomatoes", "Give them sun, a deep pot, and water at the root every morning.", "Wet leaves grow ill, and an uneven supply splits the fruit", "Tie the stem to a stick before it leans."},
	{"clean a window", "Wash it with warm water and a drop of soap, then pull it dry from the top.", "Streaks come from water that dries where it stands", "Wipe the blade with a cloth after each pull."},
	{"choose a bicycle", "Stand over it and see that two fingers fit between you and the frame.", "A frame of the right size saves your knees and your back", "Ride three sizes around the block before you pay."},
	{"stop biting my nails", "Notice the moment before, and give your hands something else to hold.", "A habit goes when its first step is taken away", "Keep a smooth stone in your pocket this week."},
	{"cook rice", "Use one cup of rice and two of water, cover it, and do not stir.", "Stirring breaks the grains and makes them sticky", "Let it stand for ten minutes after the heat is off."},
	{"sew on a button", "Pass the thread through each hole four times and wind it around below.", "The small stem leaves room for the cloth and carries the pull", "Put a match under the button while you sew."},
	{"sleep better", "Keep the same hours, a dark room, and no screen in the last hour.", "Light in the evening tells the body that it is still day", "Read on paper for twenty minutes tonight."},
	{"pack for a journey", "Lay everything out, then put a third of it back.", "Most people carry for fears and not for needs", "Pack for one week even if you stay for three."},
	{"start running", "Run for one minute, walk for two, and do that ten times.", "Lungs adapt in weeks, but tendons take months", "Stop while you still feel like going on."},
	{"learn chess", "Play short games and look at one mistake after each of them.", "A single lesson stays, and ten are forgotten", "Before each move ask what your opponent wants."},
	{"take a good photograph", "Move closer, and put the light behind you or beside you.", "Most pictures fail because too much is in them", "Take one picture of one thing in the evening sun."},
	{"keep bread fresh", "Store it cut side down in a wooden box or a cloth bag.", "Bread needs a little air, or the crust turns soft and mouldy", "Freeze half of the loaf on the first day."},
	{"learn the stars", "Learn one figure a week and find it again every clear night.", "The sky turns slowly, so that old figures lead to new ones", "Begin with the three stars of the hunter's belt."},
	{"build a fire", "Set thin dry sticks over paper and leave room for air between them.", "A fire needs air below more than it needs wood above", "Light it on the side that the wind comes from."},
	{"study for an exam", "Close the book and write down what you remember.", "Finding an answer in your own head is what makes it stay", "Test yourself today, tomorrow, and in a week."},
	{"polish shoes", "Brush off the dust, rub in a little wax, wait, and brush again.", "Wax needs a few minutes to sink in before it can shine", "Polish one shoe only and compare."},
	{"feed the birds in winter", "Offer seeds and fat in a dry place, and keep it clean.", "Small birds lose a tenth of their weight in one cold night", "Hang the feeder where a cat cannot jump."},
	{"learn to swim", "First learn to breathe out under water, then to float.", "Who can breathe out calmly no longer fights the water", "Blow bubbles for five minutes in shallow water."},
	{"remove a stain", "Dab it at once with cold water, from the rim to the middle.", "Warm water sets many stains, and rubbing spreads them", "Try the soap on a hidden seam first."},
	{"make a decision", "Write both choices down and sleep on them for a night.", "On paper a worry has an end, and in the head it goes round", "Toss a coin and notice which side you hope for."},
	{"tie a strong knot", "Make a loop, pass the end up through it, around the rope and back down.", "The harder this bowline is pulled, the firmer it holds", "Tie it ten times with your eyes closed."},
}
